"""What is said of an input that changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmcorefs.fuse.watch import Watched
from vmcorefs.sources.file import FileSource


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    path = tmp_path / "ram"
    path.write_bytes(bytes(8192))
    return path


@pytest.fixture
def watched(ram: Path) -> Watched:
    return Watched(FileSource(str(ram), role="image"))


def test_nothing_is_said_of_one_that_stays(watched: Watched) -> None:
    assert watched.look() == (False, [])


def test_it_is_said_each_time_that_it_shrinks(watched: Watched, ram: Path) -> None:
    os.truncate(ram, 4096)
    assert watched.look() == (True, ["it has 4096 bytes now, but had 8192"])
    assert watched.look() == (False, [])
    os.truncate(ram, 0)
    assert watched.look() == (True, ["it has 0 bytes now, but had 8192"])


def test_writing_growing_and_removing_are_said_once(watched: Watched, ram: Path) -> None:
    for stamp in (1_000, 2_000):
        os.utime(ram, (stamp, stamp))
        said = watched.look()[1]
        assert said == (
            ["it was written to: reads may mix old and new bytes"] if stamp == 1_000 else []
        )
    for size in (9000, 10000):
        os.truncate(ram, size)
        said = watched.look()[1]
        assert said == (["it grows: 9000 bytes now"] if size == 9000 else [])
    ram.unlink()
    assert watched.look()[1] == ["it was removed; the mount still has all of it"]
    assert watched.look() == (False, [])
    ram.write_bytes(b"another")
    assert watched.look()[1] == ["another file has its name now; the mount still shows the old one"]
