"""Sets of addresses."""

from __future__ import annotations

import numpy as np
import pytest

from vmcorefs.core.space.ranges import (
    complement,
    intersect,
    make_ranges,
    mark,
    pages_touched,
    pages_within,
    pair_overlaps,
    round_in,
    round_out,
    subtract,
    total_size,
    true_runs,
)

Rows = list[tuple[int, int]]


def _rows(ranges: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Rows:
    assert ranges.dtype == np.int64
    return [(int(start), int(end)) for start, end in ranges]


@pytest.mark.parametrize(
    ("rows", "normal"),
    [
        ([], []),
        ([(3, 3)], []),
        ([(5, 4)], []),
        ([(4, 6), (0, 2)], [(0, 2), (4, 6)]),
        # |--|  |--|   touching and overlapping rows become one
        #    |--|
        ([(0, 3), (6, 9), (3, 6)], [(0, 9)]),
        # |--------|   the inner row ends first, and its end is not the set's
        #   |--|
        ([(0, 9), (2, 4), (8, 12)], [(0, 12)]),
    ],
)
def test_a_set_is_sorted_and_its_rows_do_not_touch(rows: Rows, normal: Rows) -> None:
    assert _rows(make_ranges(rows)) == normal


@pytest.mark.parametrize(
    ("a", "b", "both", "only_a"),
    [
        ([], [(0, 5)], [], []),
        ([(0, 5)], [], [], [(0, 5)]),
        # a  |-----|
        # b     |-----|
        ([(0, 6)], [(3, 9)], [(3, 6)], [(0, 3)]),
        # a  |---------|
        # b     |--|
        ([(0, 9)], [(3, 6)], [(3, 6)], [(0, 3), (6, 9)]),
        # a  |--|  |--|
        # b   |------|
        ([(0, 3), (6, 9)], [(1, 8)], [(1, 3), (6, 8)], [(0, 1), (8, 9)]),
        # a  |--|
        # b     |--|   touching is not overlapping
        ([(0, 3)], [(3, 6)], [], [(0, 3)]),
    ],
)
def test_intersect_and_subtract_cut_at_each_edge(
    a: Rows, b: Rows, both: Rows, only_a: Rows
) -> None:
    assert _rows(intersect(make_ranges(a), make_ranges(b))) == both
    assert _rows(subtract(make_ranges(a), make_ranges(b))) == only_a


def test_the_complement_is_what_is_left_of_the_given_range() -> None:
    assert _rows(complement(make_ranges([(2, 4), (8, 20)]), 0, 10)) == [(0, 2), (4, 8)]
    assert _rows(complement(make_ranges([]), 0, 10)) == [(0, 10)]
    assert _rows(complement(make_ranges([(0, 10)]), 0, 10)) == []


def test_pairs_of_overlapping_rows_come_in_order_of_the_first() -> None:
    # a0     |-----------|
    # a1  |--|
    # a2                   |-|
    # b     |--| |--|  |--|
    a_row, b_row = pair_overlaps(
        np.array([4, 0, 20]), np.array([16, 4, 22]), np.array([2, 8, 14]), np.array([6, 11, 18])
    )
    assert list(zip(a_row.tolist(), b_row.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
    ]


def test_the_total_size_is_in_bytes() -> None:
    assert total_size(make_ranges([(0, 3), (0x1000, 0x9FC00)])) == 3 + 0x9EC00


@pytest.mark.parametrize(
    ("rows", "inside", "around"),
    [
        ([], [], []),
        ([(0, 16)], [(0, 16)], [(0, 16)]),
        ([(1, 16)], [(8, 16)], [(0, 16)]),
        ([(1, 7)], [], [(0, 8)]),
        ([(7, 9)], [], [(0, 16)]),
        ([(4, 17), (20, 41)], [(8, 16), (24, 40)], [(0, 48)]),
        ([(0, 6), (7, 8), (16, 24)], [(16, 24)], [(0, 8), (16, 24)]),
    ],
)
def test_rounding_to_whole_granules(rows: Rows, inside: Rows, around: Rows) -> None:
    assert _rows(round_in(make_ranges(rows), 8)) == inside
    assert _rows(round_out(make_ranges(rows), 8)) == around


def test_pages_of_ranges_by_number() -> None:
    ranges = make_ranges([(0x800, 0x1800), (0x3000, 0x6000)])
    assert _rows(pages_touched(ranges, 0x1000)) == [(0, 2), (3, 6)]
    assert _rows(pages_within(ranges, 0x1000)) == [(3, 6)]


@pytest.mark.parametrize(
    ("flags", "runs"),
    [("", []), ("00", []), ("1", [(0, 1)]), ("0110", [(1, 3)]), ("1011", [(0, 1), (2, 4)])],
)
def test_runs_of_flags(flags: str, runs: list[tuple[int, int]]) -> None:
    assert _rows(true_runs(np.array([flag == "1" for flag in flags], dtype=np.bool_))) == runs


@pytest.mark.parametrize(
    ("first", "marked"),
    [(0, "0010"), (2, "1011"), (3, "0110"), (4, "1101"), (6, "0111"), (10, "1000"), (11, "0000")],
)
def test_which_numbers_are_in_a_set(first: int, marked: str) -> None:
    found = mark(make_ranges([(2, 3), (4, 6), (7, 11)]), first, 4)
    assert found.dtype == np.bool_
    assert "".join("01"[flag] for flag in found.tolist()) == marked
    assert not mark(make_ranges([]), first, 4).any()
