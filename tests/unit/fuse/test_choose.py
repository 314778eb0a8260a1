"""Which plane is chosen, and the reason that is given."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tests.builders.extents import table
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.fuse.planes.choose import PlaneName, Served, choose_plane
from vmcorefs.sources.base import BytesSource, Source
from vmcorefs.sources.file import FileSource
from vmcorefs.tree.file import TreeFile, table_file

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> FileSource:
    path = tmp_path / "ram"
    path.write_bytes(bytes(2 * MIB))
    return FileSource(str(path), role="image")


def no_backing(_: int) -> int:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def whole(source: Source, size: int = 2 * MIB) -> TreeFile:
    return table_file("oldmem", table((0, size, 0, 0, Kind.DATA)), (source,))


def choose(file: TreeFile, best: PlaneName = "kernel") -> Served:
    return choose_plane(file, best, no_backing, "not asked for")


def test_a_file_that_is_a_whole_input_is_passed_to_that_input(image: FileSource) -> None:
    passed: list[int] = []

    def backing(descriptor: int) -> int:
        passed.append(descriptor)
        return 7

    served = choose_plane(whole(image), "kernel", backing, "")
    assert (served.plane, served.backing, served.why_not) == ("kernel", 7, ())
    assert passed == [image.fileno()]
    assert not served.has_shrunk
    os.truncate(image.name, MIB)
    assert served.has_shrunk


def test_without_passthrough_the_file_is_mapped_and_the_reason_kept(image: FileSource) -> None:
    served = choose(whole(image))
    assert served.plane == "mapped"
    assert served.why_not == ("kernel: FUSE passthrough: Operation not permitted",)
    assert served.mapping is not None
    assert len(served.mapping.view) == 2 * MIB


def test_a_plane_that_was_not_asked_for_is_not_taken(image: FileSource) -> None:
    served = choose(whole(image), "plain")
    assert served.plane == "plain"
    assert served.why_not == ("kernel: not asked for", "mapped: not asked for")


def test_a_small_file_and_one_of_made_bytes_are_plain(image: FileSource) -> None:
    assert choose(whole(image, MIB - 1)).by == "smaller than 1048576 bytes"
    made = choose(whole(BytesSource("made", bytes(2 * MIB))))
    assert made.plane == "plain"
    assert made.why_not[1] == "mapped: no input holds a whole page of it as it is"


def test_an_image_of_too_many_pieces_is_plain(image: FileSource) -> None:
    count = 20_000
    start = np.arange(count, dtype=np.int64) * 4096
    scattered = Extents(
        start,
        np.full(count, 4096, dtype=np.int64),
        np.random.default_rng(1).permutation(count) * 4096,
        np.zeros(count, dtype=np.int32),
        np.zeros(count, dtype=np.int8),
    )
    served = choose(table_file("vmcore", scattered, (image,)), "mapped")
    assert served.plane == "plain"
    assert "mappings, more than 16384" in served.why_not[1]


def test_bytes_that_lie_off_their_pages_are_plain_where_they_are_many(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    path.touch()
    os.truncate(path, 64 * MIB)
    image = FileSource(str(path), role="image")
    rows = table((0, 20 * MIB, 8, 0, Kind.DATA), (20 * MIB, MIB, 32 * MIB, 0, Kind.DATA))
    served = choose(table_file("vmcore", rows, (image,)), "mapped")
    assert served.plane == "plain"
    assert served.why_not[1] == "mapped: 20971520 bytes would be copied, more than 16777216"
