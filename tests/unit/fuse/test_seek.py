"""SEEK_DATA and SEEK_HOLE."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders.extents import table
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.fuse.planes.seek import Seeker, Stretch
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource
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
    assert Seeker(reader(sparse)).seek(offset, os.SEEK_DATA) == data
    assert Seeker(reader(sparse)).seek(offset, os.SEEK_HOLE) == hole


def test_a_search_goes_on_where_the_next_extent_begins(sparse: FileSource) -> None:
    """Rows of the input that touch, the first with no hole, the last but one with no data."""
    extents = table(
        (0, MIB, 2 * MIB, 0, Kind.DATA),
        (MIB, MIB, 0, 0, Kind.DATA),
        (2 * MIB, MIB, MIB, 0, Kind.DATA),
        (3 * MIB, MIB, 0, -1, Kind.ZERO),
        (4 * MIB, MIB, 3 * MIB, 0, Kind.DATA),
    )
    seeker = Seeker(Reader("file", extents, (sparse,)))
    assert seeker.seek(0, os.SEEK_HOLE) == 2 * MIB
    assert seeker.seek(2 * MIB, os.SEEK_DATA) == 4 * MIB
    assert seeker.seek(4 * MIB, os.SEEK_HOLE) == 5 * MIB


def test_what_an_input_has_lost_is_data_so_that_it_is_read_and_found_out(
    sparse: FileSource,
) -> None:
    seeker = Seeker(reader(sparse))
    assert seeker.seek(MIB, os.SEEK_DATA) == 2 * MIB
    os.truncate(sparse.name, MIB)
    assert seeker.seek(MIB, os.SEEK_DATA) == MIB
    assert seeker.seek(3 * MIB, os.SEEK_DATA) == 3 * MIB


def test_another_whence_is_refused(sparse: FileSource) -> None:
    assert Seeker(reader(sparse)).seek(0, os.SEEK_SET) == -errno.EINVAL


def test_a_hole_that_is_filled_meanwhile_is_data(sparse: FileSource) -> None:
    seeker = Seeker(reader(sparse))
    assert seeker.seek(MIB, os.SEEK_DATA) == 2 * MIB
    with open(sparse.name, "r+b") as file:
        file.seek(MIB)
        file.write(b"z" * MIB)
    assert seeker.seek(MIB, os.SEEK_DATA) == MIB
    assert seeker.seek(0, os.SEEK_HOLE) == 4 * MIB


@pytest.fixture
def lseeks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets that a file system is asked about."""
    asked: list[int] = []
    lseek = os.lseek

    def watched(descriptor: int, offset: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            asked.append(offset)
        return lseek(descriptor, offset, whence)

    monkeypatch.setattr(os, "lseek", watched)
    return asked


def pages_of(source: FileSource, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Reader:
    """A file of these pages of an input, an extent for each."""
    count = len(numbers)
    table = Extents(
        np.arange(count, dtype=np.int64) * 4096,
        np.full(count, 4096, dtype=np.int64),
        numbers * 4096,
        np.zeros(count, dtype=np.int32),
        np.full(count, Kind.DATA, dtype=np.int8),
    )
    return Reader("file", table, (source,))


def stretches(seek: Callable[[int, int], int]) -> Iterator[tuple[int, int]]:
    """The data of a file, found as cp(1) does."""
    end = 0
    while (start := seek(end, os.SEEK_DATA)) >= 0:
        end = seek(start, os.SEEK_HOLE)
        yield start, end


def test_a_million_extents_of_a_file_without_holes_are_asked_for_once(
    tmp_path: Path, lseeks: list[int]
) -> None:
    path = tmp_path / "ram"
    path.write_bytes(b"x" * 4 * MIB)
    numbers = np.random.default_rng(1).integers(0, 1024, 1_000_000)
    seeker = Seeker(pages_of(FileSource(str(path), role="image"), numbers))
    assert list(stretches(seeker.seek)) == [(0, 4096 * 1_000_000)]
    # where the first is, a page may be in front of it; twice for each: is it data, and how far
    assert len(lseeks) <= 2 * 20
    lseeks.clear()
    assert list(stretches(seeker.seek)) == [(0, 4096 * 1_000_000)]
    assert lseeks == []


def test_extents_in_one_hole_are_asked_for_once(tmp_path: Path, lseeks: list[int]) -> None:
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.truncate(1 << 32)
    seeker = Seeker(pages_of(FileSource(str(path), role="image"), np.arange(1 << 20)))
    assert seeker.seek(0, os.SEEK_DATA) == -errno.ENXIO
    assert seeker.seek(12345, os.SEEK_DATA) == -errno.ENXIO
    assert lseeks == [0]


@pytest.mark.parametrize("step", [1, -1])
def test_a_sparse_file_is_asked_for_each_of_its_parts_not_for_each_extent(
    tmp_path: Path, lseeks: list[int], step: int
) -> None:
    path = tmp_path / "ram"
    parts = 100
    with path.open("wb") as file:
        for part in range(parts):
            file.seek(part * 128 * 4096)
            file.write(b"x" * 64 * 4096)
        file.truncate(parts * 128 * 4096)
    numbers = np.arange(parts * 128)
    if step < 0:  # the parts from the last to the first, each in order
        numbers = numbers.reshape(parts, 128)[::-1].reshape(-1)
    seeker = Seeker(pages_of(FileSource(str(path), role="image"), numbers))
    found = list(stretches(seeker.seek))
    assert found == [(n * 128 * 4096, (n * 128 + 64) * 4096) for n in range(parts)]
    assert len(lseeks) <= 4 * parts


def test_a_search_from_each_page_costs_no_more_than_one(
    tmp_path: Path, lseeks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    find = Seeker._find_stretch

    def counted(seeker: Seeker, known: Any, offset: int) -> Stretch:
        walks.append(offset)
        return find(seeker, known, offset)

    monkeypatch.setattr(Seeker, "_find_stretch", counted)
    path = tmp_path / "ram"
    path.write_bytes(b"x" * 4096 * 2000)
    seeker = Seeker(pages_of(FileSource(str(path), role="image"), np.arange(2000)))
    for page in range(2000):
        assert seeker.seek(page * 4096, os.SEEK_HOLE) == 2000 * 4096
    assert len(lseeks) == 2
    assert walks == [0]


@pytest.mark.parametrize("seed", range(20))
def test_any_file_is_searched_as_if_page_by_page(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path, pages = tmp_path / "ram", 64
    stored = random.random(pages) < random.random()
    with path.open("wb") as file:
        for page in np.flatnonzero(stored).tolist():
            file.seek(page * 4096)
            file.write(b"x" * 4096)
        file.truncate(pages * 4096)
    files = [FileSource(str(path), role="image") for _ in range(2)]
    rows: list[tuple[int, int, int, int, Kind]] = []
    expected: list[bool] = []  # whether each page is data
    while len(expected) < 200:
        kind = Kind(int(random.choice([0, 0, 0, 0, 1, 2, 3, 4])))
        first, count = random.integers(0, pages), random.integers(1, 9)
        count = min(count, pages - first)
        number = int(random.integers(0, 3)) if kind == Kind.DATA else -1
        offset = int(first) * 4096 if kind == Kind.DATA else 0
        rows.append((len(expected) * 4096, int(count) * 4096, offset, number, kind))
        if kind == Kind.DATA and number < 2:
            expected += stored[first : first + count].tolist()
        else:
            expected += [kind in (Kind.DATA, Kind.MISSING, Kind.EXCLUDED)] * int(count)
    made = BytesSource("made", b"x" * pages * 4096)
    seeker = Seeker(Reader("file", table(*rows), (*files, made)))
    for page in random.permutation(len(expected)).tolist():
        for whence, wanted in ((os.SEEK_DATA, True), (os.SEEK_HOLE, False)):
            at = next((n for n in range(page, len(expected)) if expected[n] == wanted), None)
            end = -errno.ENXIO if whence == os.SEEK_DATA else len(expected) * 4096
            found = seeker.seek(page * 4096 + 7, whence)
            assert found == (end if at is None else at * 4096 + 7 * (at == page)), (page, whence)
