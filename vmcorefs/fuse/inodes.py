"""Inode numbers for the paths of a tree, as FUSE needs them, but independent of FUSE."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

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
        generation: Incremented when open descriptors of the inode must fail from now on: the kernel
            takes it for another file (fs/fuse/fuse_i.h, ``fuse_stale_inode``).
    """

    number: int
    parent: int
    file: TreeFile | None = None
    children: dict[str, int] = msgspec.field(default_factory=dict)
    generation: int = 0


def number_inodes(tree: Mapping[str, TreeFile]) -> dict[int, Inode]:
    """Give every file of ``tree``, and every directory that its paths name, an inode number."""
    inodes = {ROOT: Inode(ROOT, ROOT)}
    for path, file in tree.items():
        *directories, name = path.split("/")
        parent = inodes[ROOT]
        for directory in directories:
            if directory not in parent.children:
                _add(inodes, parent, directory, None)
            parent = inodes[parent.children[directory]]
        _add(inodes, parent, name, file)
    return inodes


def _add(inodes: dict[int, Inode], parent: Inode, name: str, file: TreeFile | None) -> None:
    number = len(inodes) + 1
    inodes[number] = Inode(number, parent.number, file)
    parent.children[name] = number
