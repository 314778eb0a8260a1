"""The ways to lay a file out in the physical address space, on numbers written by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vmcorefs.core.space.placement import Placement, concatenated, flat, iter_placements, split
from vmcorefs.core.space.ranges import Ranges, make_ranges

MIB, GIB = 1 << 20, 1 << 30
Rows = list[tuple[int, int, int]]


def rows(placement: Placement) -> Rows:
    """start, offset, size."""
    columns = (placement.start, placement.offset, placement.size)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def known(*spans: tuple[int, int]) -> Callable[[], Ranges | None]:
    return lambda: make_ranges(spans)


def unknown() -> Ranges | None:
    return None


def ways(size: int, delta: int, read_ram: Callable[[], Ranges | None]) -> list[Rows]:
    return [rows(placement) for placement in iter_placements(size, delta, read_ram)]


def test_each_way() -> None:
    assert rows(flat(5)) == [(0, 0, 5)]
    assert rows(flat(5, GIB)) == [(GIB, 0, 5)]
    assert rows(split(5 * GIB, 2 * GIB)) == [(0, 0, 2 * GIB), (4 * GIB, 2 * GIB, 3 * GIB)]
    ram = make_ranges([(0x1000, 0x9FC00), (MIB, 2 * MIB)])
    assert rows(concatenated(ram, 0x19EC00)) == [(0x1000, 0, 0x9EC00), (MIB, 0x9EC00, MIB)]


def test_a_file_that_ends_too_early_holds_what_it_can() -> None:
    ram = make_ranges([(0x1000, 0x3000), (0x5000, 0x8000), (0xA000, 0xB000)])
    assert rows(concatenated(ram, 0x2800)) == [(0x1000, 0, 0x2000), (0x5000, 0x2000, 0x800)]
    assert rows(concatenated(ram, 0x2000)) == [(0x1000, 0, 0x2000)]


def test_what_lies_behind_ram_in_the_file_is_not_placed() -> None:
    assert rows(concatenated(make_ranges([(0x1000, 0x3000)]), 0x9000)) == [(0x1000, 0, 0x2000)]


def test_the_table_counts_from_behind_what_is_in_front_of_the_memory() -> None:
    table = split(3 * GIB, 2 * GIB).extents(7, 32)
    assert table.start.tolist() == [0, 4 * GIB]
    assert table.offset.tolist() == [32, 2 * GIB + 32]
    assert table.source.tolist() == [7, 7]


def test_whether_it_has_an_address_at_an_offset() -> None:
    placement = split(3 * GIB, 2 * GIB)
    assert placement.shows(0, 0)
    assert placement.shows(4 * GIB, 2 * GIB)
    assert placement.shows(5 * GIB - 1, 3 * GIB - 1)
    assert not placement.shows(2 * GIB, 2 * GIB)
    assert not placement.shows(5 * GIB, 3 * GIB)
    assert not placement.shows(4 * GIB, 2 * GIB + 1)


def test_flat_comes_first_and_nobody_is_asked_for_ram() -> None:
    def never() -> Ranges | None:
        raise AssertionError

    assert rows(next(iter_placements(GIB, 0, never))) == [(0, 0, GIB)]


def test_without_a_map_the_usual_splits_are_tried() -> None:
    assert ways(8 * GIB, 0, unknown) == [
        [(0, 0, 8 * GIB)],
        [(0, 0, 2 * GIB), (4 * GIB, 2 * GIB, 6 * GIB)],
        [(0, 0, 3 * GIB), (4 * GIB, 3 * GIB, 5 * GIB)],
        [(0, 0, 7 * GIB // 2), (4 * GIB, 7 * GIB // 2, 9 * GIB // 2)],
    ]
    assert ways(GIB, 0, unknown) == [[(0, 0, GIB)]]


def test_a_kernel_above_the_hole_tells_which_split_it_is() -> None:
    assert ways(8 * GIB, GIB, unknown) == [
        [(GIB, 0, 8 * GIB)],
        [(0, 0, 3 * GIB), (4 * GIB, 3 * GIB, 5 * GIB)],
    ]


def test_the_map_tells_the_split() -> None:
    ram = known((0x1000, 0x9FC00), (MIB, 3 * GIB - MIB), (4 * GIB, 6 * GIB))
    split_at_3 = [(0, 0, 3 * GIB), (4 * GIB, 3 * GIB, 2 * GIB)]
    assert split_at_3 in ways(5 * GIB, 0, ram)
    assert split_at_3 in ways(5 * GIB, GIB, ram)


def test_a_split_file_that_has_lost_its_end_is_split_where_firmware_ends() -> None:
    """Of 2 + 3 GiB 4 GiB are left: that is no file that is split at 1 GiB."""
    ram = known((0x1000, 0x9FC00), (MIB, 2 * GIB - 0x24000), (4 * GIB, 7 * GIB))
    found = ways(4 * GIB, 0, ram)
    assert [(0, 0, 2 * GIB), (4 * GIB, 2 * GIB, 2 * GIB)] in found
    assert not any(way[0][2] in (GIB, 3 * GIB) for way in found)


def test_a_split_file_whose_end_is_lost_up_to_the_hole_is_flat() -> None:
    ram = known((MIB, 2 * GIB), (4 * GIB, 7 * GIB))
    assert not any(len(way) == 2 and way[1][0] == 4 * GIB for way in ways(GIB, 0, ram))


@pytest.mark.parametrize("end", [MIB + 1, 4 * GIB - 1, 4 * GIB])
def test_without_ram_above_the_hole_there_is_no_split(end: int) -> None:
    found = ways(64 * MIB, 0, known((MIB, end)))
    assert [len(way) for way in found] == [1, 1]


@pytest.mark.parametrize("first", [GIB, GIB - 2 * MIB, GIB + 2 * MIB])
def test_from_a_base_whatever_the_map_says_of_its_first_pages(first: int) -> None:
    """Firmware may have taken memory away at the start of RAM: the file has it all the same."""
    assert ways(GIB, GIB, known((first, 2 * GIB)))[-1 if first != GIB else 0] == [(GIB, 0, GIB)]
