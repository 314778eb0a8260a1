"""Every function on tables equals the same thing done byte by byte in a dict."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, strategies as st

from tests.property.strategies import SPACE, Model, Span, model_of, spans, tables
from vmcorefs.core.space.extents import (
    NO_SOURCE,
    Extents,
    Kind,
    Windows,
    coalesce,
    exclude,
    fill,
    line_up,
    overlay,
    project,
    relocate,
    restrict,
    validate,
)
from vmcorefs.core.space.ranges import complement, intersect, make_ranges, subtract, total_size


def members(rows: list[Span]) -> set[int]:
    return {address for start, end in rows for address in range(start, end)}


def same(table: Extents, model: Model) -> None:
    """The table keeps its promises and says of every byte what the model says."""
    validate(table)
    assert not table.offset[table.kind != Kind.DATA].any()
    assert model_of(table) == model


@given(tables(), tables())
def test_overlay_is_the_upper_table_where_it_speaks_and_the_lower_one_elsewhere(
    lower: Extents, upper: Extents
) -> None:
    same(overlay(lower, upper), model_of(lower) | model_of(upper))


@given(tables(), spans())
def test_restrict_keeps_what_is_inside_and_exclude_what_is_outside(
    table: Extents, rows: list[Span]
) -> None:
    inside = members(rows)
    model = model_of(table)
    same(restrict(table, make_ranges(rows)), {a: b for a, b in model.items() if a in inside})
    same(exclude(table, make_ranges(rows)), {a: b for a, b in model.items() if a not in inside})


@given(tables(), spans(), st.sampled_from([Kind.ZERO, Kind.HOLE, Kind.MISSING]))
def test_fill_speaks_only_where_the_table_does_not(
    table: Extents, rows: list[Span], kind: Kind
) -> None:
    expected = dict.fromkeys(members(rows), (int(kind), NO_SOURCE, 0)) | model_of(table)
    same(fill(table, make_ranges(rows), kind), expected)


@given(tables())
def test_coalesce_says_the_same_with_as_few_rows_as_can_be(table: Extents) -> None:
    joined = coalesce(table)
    same(joined, model_of(table))
    model = model_of(table)
    breaks = 0
    for address in model:
        before = model.get(address - 1)
        kind, source, offset = model[address]
        step = 1 if kind == Kind.DATA else 0
        breaks += before != (kind, source, offset - step)
    assert len(joined) == breaks


@given(
    tables(),
    st.lists(st.tuples(st.integers(0, SPACE), st.integers(0, 20), st.integers(0, 5)), max_size=6),
)
def test_project_shows_each_window_byte_by_byte(
    table: Extents, windows: list[tuple[int, int, int]]
) -> None:
    model = model_of(table)
    expected: Model = {}
    to, placed = 1000, []
    for start, size, gap in windows:
        placed.append(to)
        for step in range(size):
            if start + step in model:
                expected[to + step] = model[start + step]
        to += size + gap
    columns = ([w[0] for w in windows], [w[1] for w in windows], placed)
    start_column, size_column, to_column = (np.array(c, dtype=np.int64) for c in columns)
    shown = size_column > 0
    same(
        project(table, Windows(start_column[shown], size_column[shown], to_column[shown])), expected
    )


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 10)), max_size=8), st.integers(0, 9))
def test_windows_in_line_follow_each_other(windows: list[tuple[int, int]], to: int) -> None:
    start, size = (np.array([w[n] for w in windows], dtype=np.int64) for n in (0, 1))
    lined = line_up(start, size, to)
    at = to
    for row in range(len(lined.to)):
        assert lined.to[row] == at
        at += int(lined.size[row])
    assert at == to + sum(w[1] for w in windows)


@given(tables(), st.integers(0, 1000))
def test_relocate_there_and_back_changes_nothing(table: Extents, delta: int) -> None:
    moved = relocate(table, delta)
    assert model_of(moved) == {a + delta: b for a, b in model_of(table).items()}
    same(relocate(moved, -delta), model_of(table))


@given(st.lists(st.tuples(st.integers(0, SPACE), st.integers(0, SPACE)), max_size=10), spans())
def test_sets_of_addresses_are_sets(any_rows: list[Span], rows: list[Span]) -> None:
    a, b = make_ranges(any_rows), make_ranges(rows)
    in_a, in_b = members(any_rows), members(rows)
    for result, expected in (
        (a, in_a),
        (intersect(a, b), in_a & in_b),
        (subtract(a, b), in_a - in_b),
        (complement(a, 3, 50), set(range(3, 50)) - in_a),
    ):
        found = [(start, end) for start, end in result.tolist()]
        assert members(found) == expected
        assert total_size(result) == len(expected)
        # normal: sorted, and no two rows touch
        assert all(x[1] < y[0] for x, y in itertools.pairwise(found))
