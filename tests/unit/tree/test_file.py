"""A file of the tree."""

from __future__ import annotations

import pytest

from tests.matching import exactly
from vmcorefs.core.space.extents import EMPTY, Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.tree.file import complete, table_file, text_file, whole


def test_a_text_is_made_when_it_is_first_asked_for_and_only_once() -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"text"

    file = text_file("iomem", make)
    assert [file.is_made, made] == [False, []]
    assert (file.size, file.pread(10, 0), file.pread(2, 1)) == (4, b"text", b"ex")
    assert [file.is_made, made] == [True, [1]]


def test_an_empty_file_has_size_0_and_reads_as_nothing() -> None:
    for file in (text_file("t", lambda: b""), table_file("t", EMPTY, ())):
        assert (file.size, file.pread(100, 0), file.pread(1, 50)) == (0, b"", b"")


@pytest.mark.parametrize(("size", "offset"), [(-1, 0), (0, -1), (4, -4)])
def test_a_negative_size_or_offset_is_the_callers_mistake(size: int, offset: int) -> None:
    with pytest.raises(
        ValueError, match=exactly(f"size {size} and offset {offset} must not be negative")
    ):
        text_file("t", lambda: b"text").pread(size, offset)


def test_a_table_is_completed_to_the_files_size() -> None:
    table = complete(whole(3, 10), 30, Kind.HOLE)
    assert table.end.tolist() == [10, 30]
    assert table.kind.tolist() == [Kind.DATA, Kind.HOLE]


def test_neighbours_are_joined_when_a_table_is_completed() -> None:
    zeros = make_extents(make_ranges([(5, 10)]), kind=Kind.ZERO)
    assert complete(zeros, 10, Kind.ZERO).end.tolist() == [10]


def test_a_text_that_can_be_measured_is_not_made_for_its_size() -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"text"

    file = text_file("a", make, lambda: 4)
    assert not file.is_measured
    assert (file.size, file.is_measured, file.is_made, made) == (4, True, False, [])
    assert file.pread(10, 1) == b"ext"
    assert (file.size, made) == (4, [1])


def test_what_cannot_be_measured_is_made_for_its_size() -> None:
    file = text_file("a", lambda: b"text")
    file.measure()
    assert (file.is_made, file.is_measured, file.size) == (True, True, 4)
    empty = text_file("b", lambda: b"", lambda: 0)
    assert (empty.size, empty.is_made) == (0, False)
