"""SEEK_DATA and SEEK_HOLE."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.builders.extents import table
from vmcorefs.core.space.extents import Kind
from vmcorefs.fuse.planes.seek import seek
from vmcorefs.reader import Reader
from vmcorefs.sources.file import FileSource

MIB = 1 << 20


@pytest.fixture
def sparse(tmp_path: Path) -> FileSource:
    """An input of 4 MiB whose second MiB is a hole of its file."""
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.write(b"x" * MIB)
        file.seek(2 * MIB)
        file.write(b"y" * 2 * MIB)
    return FileSource(str(path), role="image")


def reader(source: FileSource) -> Reader:
    extents = table(
        (0, 4 * MIB, 0, 0, Kind.DATA),
        (4 * MIB, MIB, 0, -1, Kind.HOLE),
        (5 * MIB, MIB, 0, -1, Kind.MISSING),
        (6 * MIB, MIB, 0, -1, Kind.ZERO),
    )
    return Reader("file", extents, (source,))


@pytest.mark.parametrize(
    ("offset", "data", "hole"),
    [
        (0, 0, MIB),
        (MIB + 5, 2 * MIB, MIB + 5),
        (3 * MIB, 3 * MIB, 4 * MIB),
        (4 * MIB, 5 * MIB, 4 * MIB),
        (5 * MIB, 5 * MIB, 6 * MIB),  # an error to read: who skips holes must meet it
        (6 * MIB, -errno.ENXIO, 6 * MIB),
        (7 * MIB, -errno.ENXIO, -errno.ENXIO),
    ],
)
def test_holes_are_what_is_known_to_be_zeros(
    sparse: FileSource, offset: int, data: int, hole: int
) -> None:
    assert seek(reader(sparse), offset, os.SEEK_DATA) == data
    assert seek(reader(sparse), offset, os.SEEK_HOLE) == hole


def test_a_search_goes_on_where_the_next_extent_begins(sparse: FileSource) -> None:
    """Rows of the input that touch, the first with no hole, the last but one with no data."""
    extents = table(
        (0, MIB, 2 * MIB, 0, Kind.DATA),
        (MIB, MIB, 0, 0, Kind.DATA),
        (2 * MIB, MIB, MIB, 0, Kind.DATA),
        (3 * MIB, MIB, 0, -1, Kind.ZERO),
        (4 * MIB, MIB, 3 * MIB, 0, Kind.DATA),
    )
    file = Reader("file", extents, (sparse,))
    assert seek(file, 0, os.SEEK_HOLE) == 2 * MIB
    assert seek(file, 2 * MIB, os.SEEK_DATA) == 4 * MIB
    assert seek(file, 4 * MIB, os.SEEK_HOLE) == 5 * MIB


def test_what_an_input_has_lost_is_data_so_that_it_is_read_and_found_out(
    sparse: FileSource,
) -> None:
    os.truncate(sparse.name, MIB)
    assert seek(reader(sparse), 3 * MIB, os.SEEK_DATA) == 3 * MIB


def test_another_whence_is_refused(sparse: FileSource) -> None:
    assert seek(reader(sparse), 0, os.SEEK_SET) == -errno.EINVAL
