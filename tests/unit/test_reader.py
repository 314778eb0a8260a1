"""Reading through a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.builders.dead_machines import stamped
from tests.matching import exactly
from vmcorefs.core.space.extents import EMPTY, Extents, Kind
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import FaultError, LayoutError, SourceIOError
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.sources.base import BytesSource
from vmcorefs.sources.file import FileSource

SOURCES = (BytesSource("a", stamped(0, 0x100)), BytesSource("b", b"b" * 0x100))


def table(*rows: tuple[int, int, Kind, int, int]) -> Extents:
    """Rows are ``(start, end, kind, source, offset)``."""
    start, end, kind, source, offset = zip(*rows, strict=True)
    return Extents(
        np.array(start, dtype=np.int64),
        np.array(end, dtype=np.int64) - np.array(start, dtype=np.int64),
        np.array(offset, dtype=np.int64),
        np.array(source, dtype=np.int32),
        np.array(kind, dtype=np.int8),
    )


#  10     20     28     30     40       48     50
#  |  a   | zero | hole |  b   | missing|      | a
TABLE = table(
    (0x10, 0x20, Kind.DATA, 0, 0x80),
    (0x20, 0x28, Kind.ZERO, -1, 0),
    (0x28, 0x30, Kind.HOLE, -1, 0),
    (0x30, 0x40, Kind.DATA, 1, 0),
    (0x40, 0x48, Kind.MISSING, -1, 0),
    (0x50, 0x58, Kind.DATA, 0, 0),
)


@pytest.fixture
def reader() -> Reader:
    return Reader("memory", TABLE, SOURCES)


def test_a_read_across_extents_takes_each_ones_bytes(reader: Reader) -> None:
    assert reader.pread(0x28, 0x14) == stamped(0x84, 0x90) + bytes(16) + b"b" * 12


def test_what_is_known_to_be_zero_overwrites_a_dirty_buffer(reader: Reader) -> None:
    buffer = bytearray(b"\xee" * 18)
    reader.pread_into(0x20, memoryview(buffer)[1:17])
    assert buffer == b"\xee" + bytes(16) + b"\xee"


@pytest.mark.parametrize(
    ("size", "offset", "message"),
    [
        (8, 0x40, "memory: no input holds [0x40, 0x48) (missing, 8 bytes)"),
        (0x10, 0x3C, "memory: no input holds [0x40, 0x48) (missing, 8 bytes)"),
        (4, 0x48, "memory: no input holds [0x48, 0x4c) (not in the table, 4 bytes)"),
        (0x10, 0x49, "memory: no input holds [0x49, 0x50) (not in the table, 7 bytes)"),
        (8, 0x54, "memory: no input holds [0x58, 0x5c) (not in the table, 4 bytes)"),
        (4, 0x1000, "memory: no input holds [0x1000, 0x1004) (not in the table, 4 bytes)"),
        (0x20, 0, "memory: no input holds [0x0, 0x10) (not in the table, 16 bytes)"),
        (4, 0, "memory: no input holds [0x0, 0x4) (not in the table, 4 bytes)"),
    ],
)
def test_what_no_input_holds_is_a_fault_that_says_exactly_where(
    reader: Reader, size: int, offset: int, message: str
) -> None:
    with pytest.raises(FaultError, match=exactly(message)):
        reader.pread(size, offset)


def test_a_hole_is_a_fault_only_if_asked_for() -> None:
    strict = Reader("oldmem", TABLE, SOURCES, DEFAULT_FAULTS | {Kind.HOLE})
    assert strict.pread(8, 0x20) == bytes(8)
    with pytest.raises(
        FaultError, match=exactly("oldmem: no input holds [0x2a, 0x2c) (hole, 2 bytes)")
    ) as caught:
        strict.pread(2, 0x2A)
    assert (caught.value.name, caught.value.offset, caught.value.size) == ("oldmem", 0x2A, 2)


def test_an_error_of_a_source_names_the_source() -> None:
    beyond = Reader("memory", table((0, 0x200, Kind.DATA, 1, 0)), SOURCES)
    assert beyond.pread(0x100, 0) == b"b" * 0x100
    with pytest.raises(
        SourceIOError, match=exactly("b: cannot read 2 bytes at offset 0xff: it has 256 bytes")
    ):
        beyond.pread(2, 0xFF)


def test_reading_nothing_is_no_fault_anywhere(reader: Reader) -> None:
    assert reader.pread(0, 0x44) == b""
    assert reader.pread(0, 1 << 60) == b""


def test_an_empty_table_holds_nothing() -> None:
    with pytest.raises(FaultError):
        Reader("memory", EMPTY, ()).pread(1, 0)


def test_a_table_that_breaks_its_promises_is_refused() -> None:
    with pytest.raises(LayoutError):
        Reader("memory", table((0, 8, Kind.HOLE, -1, 0), (4, 9, Kind.HOLE, -1, 0)), ())


@pytest.mark.parametrize(
    ("offset", "size", "known"),
    [
        (0x20, 8, True),
        (0x24, 4, True),
        (0x28, 8, True),
        (0x24, 5, False),  # zeros, then a hole: two extents are not looked at
        (0x1F, 2, False),
        (0x10, 4, False),  # data
        (0x40, 4, False),  # missing is no zeros
        (0x48, 4, False),  # nor is what is not in the table
        (0x60, 4, False),
        (0, 4, False),
    ],
)
def test_only_what_is_surely_zeros_is_known_to_be(
    reader: Reader, offset: int, size: int, known: bool
) -> None:
    assert reader.is_zero(offset, size) is known


def test_a_hole_that_is_a_fault_is_not_known_to_be_zeros() -> None:
    strict = Reader("oldmem", TABLE, SOURCES, DEFAULT_FAULTS | {Kind.HOLE})
    assert not strict.is_zero(0x28, 8)
    assert strict.is_zero(0x20, 8)


def test_a_hole_in_the_image_is_asked_for_at_its_place_in_the_image(tmp_path: Path) -> None:
    # memory  |1000 ........ 4000|     file  |100000: data|101000 ... 103000: never written|
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.seek(0x100000)
        file.write(b"x" * 0x1000)
        file.truncate(0x103000)
    source = FileSource(str(path), role="image")
    image = Reader("memory", table((0x1000, 0x4000, Kind.DATA, 0, 0x100000)), [source])
    assert not image.is_zero(0x1000, 0x1000)
    assert not image.is_zero(0x1FFF, 2)
    assert image.is_zero(0x2000, 0x2000)
    path.write_bytes(b"short")
    assert not image.is_zero(0x2000, 0x2000)
    source.close()


def test_the_row_of_an_offset_is_the_last_that_starts_there_or_before(reader: Reader) -> None:
    assert [reader.row_of(o) for o in (0, 0x10, 0x1F, 0x20, 0x4F, 0x50, 0x1000)] == [
        0,
        0,
        0,
        1,
        4,
        5,
        5,
    ]


def test_ranges_that_hold_data_leave_out_the_holes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.seek(0x200000)
        file.write(b"x" * 0x1000)
        file.truncate(0x400000)
    # memory is the file's second half, then its first
    halves = table(
        (0, 0x200000, Kind.DATA, 0, 0x200000),
        (0x200000, 0x400000, Kind.DATA, 0, 0),
        (0x400000, 0x500000, Kind.ZERO, -1, 0),
    )
    reader = Reader("memory", halves, (FileSource(str(path), role="image"),))
    everything = make_ranges([(0, 0x500000)])
    assert reader.data_ranges(everything, 0x1000).tolist() == [[0, 0x1000]]
    assert reader.data_ranges(everything, 0x300000).tolist() == [[0, 0x200000]]
    assert reader.data_ranges(make_ranges([(0x800, 0x900)]), 0x1000).tolist() == [[0x800, 0x900]]
    assert reader.data_ranges(make_ranges([(0x1000, 0x2000)]), 0x1000).tolist() == []
    assert Reader("nothing", EMPTY, ()).data_ranges(everything, 4096).tolist() == []


def test_what_one_file_has_in_the_page_cache_is_read_and_nothing_else(tmp_path: Path) -> None:
    ram = tmp_path / "ram"
    ram.write_bytes(stamped(0, 0x3000))
    image = FileSource(str(ram), role="image")
    of_image = table(
        (0x1000, 0x2000, Kind.DATA, 0, 0),
        (0x2000, 0x3000, Kind.DATA, 0, 0x2000),
        (0x3000, 0x4000, Kind.ZERO, -1, 0),
        (0x4000, 0x4100, Kind.DATA, 1, 0),
        (0x5000, 0x6000, Kind.DATA, 0, 0x2800),
    )
    reader = Reader("vmcore", of_image, (image, SOURCES[0]))
    buffer = memoryview(bytearray(8))
    for offset, at in ((0x1000, 0), (0x1FF8, 0xFF8), (0x2000, 0x2000), (0x1800, 0x800)):
        assert reader.pread_cached(offset, buffer)
        assert bytes(buffer) == stamped(at, at + 8)
    # not held, two extents, zeros, no file, not held, and an input that ends early
    for offset in (0, 0xFFC, 0x1FFC, 0x2FFC, 0x3000, 0x4000, 0x4800, 0x57FC, 0x5800, 0x6000):
        assert not reader.pread_cached(offset, buffer)
    assert not Reader("vmcore", EMPTY, (image,)).pread_cached(0, buffer)
    image.close()
