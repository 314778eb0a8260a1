"""The extent table's functions, each on the smallest picture that shows it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.matching import exactly
from vmcorefs.core.space.extents import (
    EMPTY,
    NO_SOURCE,
    Extents,
    Kind,
    Windows,
    coalesce,
    exclude,
    fill,
    line_up,
    make_extents,
    merge,
    overlay,
    project,
    relocate,
    restrict,
    validate,
)
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import LayoutError

Row = tuple[int, int, int, int, Kind]


def data(start: int, end: int, *, source: int = 0, offset: int = 0) -> Extents:
    return make_extents(make_ranges([(start, end)]), kind=Kind.DATA, source=source, offset=offset)


def rows(table: Extents) -> list[Row]:
    """Every row as ``(start, end, source, offset, kind)``."""
    columns = (table.start, table.end, table.source, table.offset, table.kind)
    return [(*row[:4], Kind(row[4])) for row in zip(*(c.tolist() for c in columns), strict=True)]


def hole(start: int, end: int, kind: Kind = Kind.HOLE) -> Row:
    return (start, end, NO_SOURCE, 0, kind)


def test_ranges_of_one_source_keep_their_distance_in_it() -> None:
    table = make_extents(make_ranges([(10, 12), (20, 25)]), kind=Kind.DATA, source=3, offset=100)
    assert rows(table) == [(10, 12, 3, 100, Kind.DATA), (20, 25, 3, 110, Kind.DATA)]


def test_what_is_not_data_has_neither_source_nor_offset() -> None:
    assert rows(make_extents(make_ranges([(10, 12)]), kind=Kind.ZERO, offset=7)) == [
        hole(10, 12, Kind.ZERO)
    ]


@pytest.mark.parametrize("count", [2, 8, 9, 300])
def test_any_number_of_tables_are_merged_in_order_of_address(count: int) -> None:
    # each has two rows, and between them lies one of every other
    tables = [
        merge(data(10 * n, 10 * n + 5, source=n), data(10_000 + 10 * n, 10_003 + 10 * n, source=n))
        for n in range(count)
    ]
    found = rows(merge(*tables[::-1]))
    assert found == [(10 * n, 10 * n + 5, n, 0, Kind.DATA) for n in range(count)] + [
        (10_000 + 10 * n, 10_003 + 10 * n, n, 0, Kind.DATA) for n in range(count)
    ]


def test_the_upper_table_is_believed_where_both_speak() -> None:
    # lower   |aaaaaaaaaaaaaaaa|      |bbbbbb|
    # upper        |UUUU|          |UU|
    # result  |aaaa|UUUU|aaaaaa|   |UU|bbbbbb|
    lower = merge(data(0, 16), data(22, 28, source=1))
    upper = merge(data(5, 9, source=9), data(20, 22, source=9, offset=40))
    assert rows(overlay(lower, upper)) == [
        (0, 5, 0, 0, Kind.DATA),
        (5, 9, 9, 0, Kind.DATA),
        (9, 16, 0, 9, Kind.DATA),
        (20, 22, 9, 40, Kind.DATA),
        (22, 28, 1, 0, Kind.DATA),
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        # |aaaaaa|  under |UUUUUU|
        (0, 6, [(0, 6, 1, 0, Kind.DATA)]),
        # |aaaaaa|  under |UUUUUUUU|
        (0, 8, [(0, 8, 1, 0, Kind.DATA)]),
        # |aaaaaa|
        #       |UU|
        (6, 8, [(0, 6, 0, 0, Kind.DATA), (6, 8, 1, 0, Kind.DATA)]),
        # |aaaaaa|
        #    |U|
        (3, 4, [(0, 3, 0, 0, Kind.DATA), (3, 4, 1, 0, Kind.DATA), (4, 6, 0, 4, Kind.DATA)]),
    ],
)
def test_overlay_cuts_the_lower_table_at_the_upper_ones_edges(
    low: int, high: int, expected: list[Row]
) -> None:
    assert rows(overlay(data(0, 6), data(low, high, source=1))) == expected


def test_an_upper_hole_hides_data() -> None:
    upper = make_extents(make_ranges([(2, 4)]), kind=Kind.HOLE)
    assert rows(overlay(data(0, 6), upper))[1] == hole(2, 4)


def test_overlay_on_nothing_and_of_nothing() -> None:
    assert rows(overlay(EMPTY, data(0, 4))) == rows(data(0, 4))
    assert rows(overlay(data(0, 4), EMPTY)) == rows(data(0, 4))


def test_restrict_and_exclude_cut_rows_and_move_their_offsets() -> None:
    # table    |aaaaaaaaaaaa|
    # ranges     |--|  |--|
    table, ranges = data(0, 12, offset=100), make_ranges([(2, 4), (8, 10)])
    assert rows(restrict(table, ranges)) == [
        (2, 4, 0, 102, Kind.DATA),
        (8, 10, 0, 108, Kind.DATA),
    ]
    assert rows(exclude(table, ranges)) == [
        (0, 2, 0, 100, Kind.DATA),
        (4, 8, 0, 104, Kind.DATA),
        (10, 12, 0, 110, Kind.DATA),
    ]


def test_project_shows_each_window_at_its_new_place() -> None:
    # table    |aaaaaa|  |bbbbbb|
    # windows     |----1----|  to 0,  |2| to 100 lies within the first
    table = merge(data(0, 6, offset=50), data(8, 14, source=1))
    windows = Windows(np.array([3, 4]), np.array([9, 2]), np.array([0, 100]))
    assert rows(project(table, windows)) == [
        (0, 3, 0, 53, Kind.DATA),
        (5, 9, 1, 0, Kind.DATA),
        (100, 102, 0, 54, Kind.DATA),
    ]


def test_windows_line_up_without_a_gap_and_empty_ones_vanish() -> None:
    windows = line_up(np.array([50, 60, 70]), np.array([4, 0, 6]), to=1000)
    assert windows.start.tolist() == [50, 70]
    assert windows.to.tolist() == [1000, 1004]


def test_fill_tells_of_the_gaps_alone() -> None:
    # table    |aa|    |bb|
    # fill   |---------------|
    table = merge(data(2, 4), data(8, 10, source=1))
    assert rows(fill(table, make_ranges([(0, 14)]), Kind.MISSING)) == [
        hole(0, 2, Kind.MISSING),
        (2, 4, 0, 0, Kind.DATA),
        hole(4, 8, Kind.MISSING),
        (8, 10, 1, 0, Kind.DATA),
        hole(10, 14, Kind.MISSING),
    ]


def test_neighbours_that_go_on_in_one_source_become_one_row() -> None:
    pieces = merge(data(0, 4), data(4, 9, offset=4), data(9, 12, offset=100))
    assert rows(coalesce(pieces)) == [(0, 9, 0, 0, Kind.DATA), (9, 12, 0, 100, Kind.DATA)]


@pytest.mark.parametrize(
    "second", [data(4, 6, offset=5), data(4, 6, source=1, offset=4), data(5, 6, offset=5)]
)
def test_neighbours_that_are_not_one_run_stay_apart(second: Extents) -> None:
    assert len(coalesce(merge(data(0, 4), second))) == 2


def test_holes_join_whatever_their_offsets_but_not_with_zeros() -> None:
    hole_rows = [make_extents(make_ranges([s]), kind=Kind.HOLE) for s in ((0, 4), (4, 8))]
    zeros = make_extents(make_ranges([(8, 9)]), kind=Kind.ZERO)
    assert rows(coalesce(merge(*hole_rows, zeros))) == [hole(0, 8), hole(8, 9, Kind.ZERO)]


def test_relocate_moves_addresses_and_not_bytes() -> None:
    assert rows(relocate(data(10, 14, offset=3), -10)) == [(0, 4, 0, 3, Kind.DATA)]


def test_relocate_below_address_zero_is_refused() -> None:
    with pytest.raises(LayoutError):
        relocate(data(10, 14), -11)


def test_tables_that_overlap_do_not_merge() -> None:
    with pytest.raises(
        LayoutError,
        match=exactly(
            "extent 1 [0x3, 0x6) after [0x0, 0x4): empty, out of order, overlapping or beyond"
            " 0x4000000000000000"
        ),
    ):
        merge(data(0, 4), data(3, 6, source=1))


@pytest.mark.parametrize(
    ("start", "size", "offset"),
    [
        ([0, 4], [4, 0], [0, 0]),
        ([0], [-1], [0]),
        ([-1], [4], [0]),
        ([0], [4], [-1]),
        ([2**62], [2**62 + 2**61 + 2**60 + 2**62], [0]),
        ([4, 0], [4, 4], [0, 0]),
    ],
)
def test_a_table_that_breaks_its_promises_is_refused(
    start: list[int], size: list[int], offset: list[int]
) -> None:
    wrapped = np.array(size, dtype=np.uint64 if min(size) >= 0 else np.int64).astype(np.int64)
    count = len(start)
    with pytest.raises(LayoutError):
        validate(
            Extents(
                np.array(start, dtype=np.int64),
                wrapped,
                np.array(offset, dtype=np.int64),
                np.zeros(count, dtype=np.int32),
                np.zeros(count, dtype=np.int8),
            )
        )


def test_a_tables_ranges_join_across_kinds_and_sources() -> None:
    table = merge(data(0, 4), make_extents(make_ranges([(4, 8)]), kind=Kind.HOLE), data(9, 10))
    assert table.ranges.tolist() == [[0, 8], [9, 10]]
    assert table.only(Kind.DATA).ranges.tolist() == [[0, 4], [9, 10]]
