"""Cutting a table into whole pages."""

from __future__ import annotations

import pytest

from tests.builders.extents import Row, table
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.fuse.planes.pages import cut_into_pages
from vmcorefs.reader import DEFAULT_FAULTS


def rows(extents: Extents) -> list[Row]:
    columns = (extents.start, extents.size, extents.offset, extents.source, extents.kind)
    return [
        (a, b, c, d, Kind(e)) for a, b, c, d, e in zip(*(x.tolist() for x in columns), strict=True)
    ]


def cut(*given: Row, shown: frozenset[int] = frozenset({0, 1})) -> list[Row]:
    return rows(cut_into_pages(table(*given), DEFAULT_FAULTS, shown).table)


def test_whole_pages_of_one_source_are_shown_as_they_lie() -> None:
    assert cut((0, 0x3000, 0x5000, 0, Kind.DATA)) == [(0, 0x3000, 0x5000, 0, Kind.DATA)]


def test_a_page_where_two_extents_meet_is_copied() -> None:
    # the backup ends at 0x9fc00, in the middle of a page
    assert cut(
        (0, 0x9FC00, 0, 1, Kind.DATA),
        (0x9FC00, 0x60400, 0x9FC00, 0, Kind.DATA),
    ) == [
        (0, 0x9F000, 0, 1, Kind.DATA),
        (0x9F000, 0x1000, 0, -1, Kind.HOLE),
        (0xA0000, 0x60000, 0xA0000, 0, Kind.DATA),
    ]


def test_bytes_that_lie_across_pages_of_their_source_are_copied() -> None:
    assert cut((0, 0x2000, 0x10, 0, Kind.DATA)) == [(0, 0x2000, 0, -1, Kind.HOLE)]


def test_a_source_that_cannot_be_shown_is_copied() -> None:
    assert cut((0, 0x1000, 0, 0, Kind.DATA), shown=frozenset()) == [(0, 0x1000, 0, -1, Kind.HOLE)]


def test_zeros_and_holes_are_zeros_and_a_page_with_a_missing_byte_is_missing() -> None:
    assert cut(
        (0, 0x1000, 0, -1, Kind.ZERO),
        (0x1000, 0x1000, 0, -1, Kind.HOLE),
        (0x2000, 0x1800, 0, 0, Kind.DATA),
        (0x3800, 0x100, 0, -1, Kind.MISSING),
        (0x3900, 0x700, 0, -1, Kind.ZERO),
    ) == [
        (0, 0x2000, 0, -1, Kind.ZERO),
        (0x2000, 0x1000, 0, 0, Kind.DATA),
        (0x3000, 0x1000, 0, -1, Kind.MISSING),
    ]


@pytest.mark.parametrize(
    ("kind", "shown_as"), [(Kind.DATA, Kind.HOLE), (Kind.ZERO, Kind.ZERO)], ids=["data", "zeros"]
)
def test_the_last_page_is_copied_as_its_source_may_end_there_and_zeros_do_not(
    kind: Kind, shown_as: Kind
) -> None:
    found = cut_into_pages(table((0, 0x1234, 0, 0, kind)), DEFAULT_FAULTS, frozenset({0}))
    assert found.size == 0x1234
    assert rows(found.table)[-1][4] == shown_as
    assert int(found.table.end[-1]) == 0x2000
