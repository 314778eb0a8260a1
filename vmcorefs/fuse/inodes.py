"""Inode numbers for the paths of a tree, as FUSE needs them, but independent of FUSE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import TreeFile

ROOT = 1
"""The root's inode number (include/uapi/linux/fuse.h, ``FUSE_ROOT_ID``)."""


class Inode(msgspec.Struct):
    """A file or a directory.

    Attributes:
        number: Its inode number; also the handle of everything opened on it, as an open file has no
            state.
        parent: The inode number of its directory; the root is its own.
        file: Its content, or None for a directory.
        children: A directory's entries: name to inode number, in the tree's order.
        directory: Of a directory whose files have not been asked for: what finds them.
        generation: Incremented when open descriptors of the inode must fail from now on: the kernel
            takes it for another file (fs/fuse/fuse_i.h, ``fuse_stale_inode``).
    """

    number: int
    parent: int
    file: TreeFile | None = None
    children: dict[str, int] = msgspec.field(default_factory=dict)
    generation: int = 0
    directory: TreeDirectory | None = None


def number_inodes(
    tree: Mapping[str, TreeFile], directories: Iterable[TreeDirectory] = ()
) -> dict[int, Inode]:
    """Give every file of ``tree``, and every directory that its paths name, an inode number.

    Args:
        tree: The files by path.
        directories: Those whose files are numbered later, by ``number_files``.
    """
    inodes = {ROOT: Inode(ROOT, ROOT)}
    for path, file in tree.items():
        *names, name = path.split("/")
        parent = inodes[ROOT]
        for above in names:
            if above not in parent.children:
                _add(inodes, parent, above)
            parent = inodes[parent.children[above]]
        _add(inodes, parent, name).file = file
    for directory in directories:
        _add(inodes, inodes[ROOT], directory.path).directory = directory
    return inodes


def number_files(inodes: dict[int, Inode], parent: Inode, files: Iterable[TreeFile]) -> None:
    """Give the files of a directory inode numbers, once they have been found."""
    for file in files:
        _add(inodes, parent, file.path.rpartition("/")[2]).file = file
    parent.directory = None


def _add(inodes: dict[int, Inode], parent: Inode, name: str) -> Inode:
    number = len(inodes) + 1
    inode = inodes[number] = Inode(number, parent.number)
    parent.children[name] = number
    return inode
