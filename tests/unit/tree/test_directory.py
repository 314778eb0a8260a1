"""A directory whose files are found when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmcorefs.errors import FormatError
from vmcorefs.fuse.inodes import ROOT, number_files, number_inodes
from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import TreeFile, text_file


def test_files_are_found_once() -> None:
    asked = []

    def find() -> Iterator[TreeFile]:
        asked.append(True)
        yield text_file("modules/ext4.ko.debug", lambda: b"ext4")

    directory = TreeDirectory("modules", find)
    assert not asked

    assert list(directory.files) == ["modules/ext4.ko.debug"]
    assert directory.files["modules/ext4.ko.debug"].pread(4, 0) == b"ext4"
    assert asked == [True]


def test_what_failed_is_tried_again() -> None:
    results: list[list[TreeFile]] = [[text_file("modules/a", lambda: b"")]]

    def find() -> list[TreeFile]:
        if len(results) == 1:
            results.append([])
            raise FormatError("not yet")
        return results[0]

    directory = TreeDirectory("modules", find)

    with pytest.raises(FormatError, match="not yet"):
        _ = directory.files
    assert list(directory.files) == ["modules/a"]


def test_its_files_have_inodes_once_they_are_found() -> None:
    directory = TreeDirectory("modules", lambda: [text_file("modules/a", lambda: b"")])
    inodes = number_inodes({"vmcore": text_file("vmcore", lambda: b"")}, [directory])
    parent = inodes[inodes[ROOT].children["modules"]]
    assert (parent.file, parent.children, parent.directory) == (None, {}, directory)

    number_files(inodes, parent, directory.files.values())

    assert parent.directory is None
    child = inodes[parent.children["a"]]
    assert (child.parent, child.file) == (parent.number, directory.files["modules/a"])
    assert sorted(inodes) == [1, 2, 3, 4]
