"""What the kernel puts together is what reading gives, page by page, for any table."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.property.strategies import SPACE, tables
from vmcorefs.core.space.extents import Extents, Kind, fill
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import FaultError
from vmcorefs.fuse.planes.composite import open_composite
from vmcorefs.fuse.planes.mapping import Mapping
from vmcorefs.fuse.planes.pages import PAGE, Pages, cut_into_pages
from vmcorefs.reader import Reader
from vmcorefs.sources.file import FileSource

UNIT = PAGE // 2
"""An address of the model: edges fall on pages and into their middle."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[FileSource]:
    """Three inputs of noise; the last is never shown, as one that must be decoded is not."""
    directory = tmp_path_factory.mktemp("inputs")
    noise = np.random.default_rng(7)
    found = []
    for number in range(3):
        path = directory / str(number)
        path.write_bytes(noise.bytes((SPACE + 100) * UNIT))
        found.append(FileSource(str(path), role="image"))
    return found


@st.composite
def files(draw: st.DrawFn, gaps: st.SearchStrategy[Kind]) -> Extents:
    """Tables that cover a file: every gap is of one kind."""
    table = draw(tables())
    ends = draw(st.integers(1, SPACE * UNIT))
    scaled = Extents(
        table.start * UNIT, table.size * UNIT, table.offset * UNIT, table.source, table.kind
    )
    last = int(scaled.end[-1]) if len(scaled) else 0
    return fill(scaled, make_ranges([(0, max(last, ends))]), draw(gaps))


def cut(
    table: Extents, faults: frozenset[Kind], sources: list[FileSource]
) -> tuple[Pages, dict[int, int], Reader]:
    return (
        cut_into_pages(table, faults, frozenset({0, 1})),
        {number: sources[number].fileno() for number in (0, 1)},
        Reader("file", table, sources, faults),
    )


@given(files(st.sampled_from(Kind).filter(lambda kind: kind != Kind.DATA)), st.data())
def test_a_mapping_has_the_bytes_that_reading_gives_and_faults_where_it_fails(
    sources: list[FileSource], table: Extents, data: st.DataObject
) -> None:
    faults = data.draw(st.sampled_from([{Kind.MISSING}, {Kind.MISSING, Kind.HOLE}]))
    pages, descriptors, reader = cut(table, frozenset(faults), sources)
    mapping = Mapping(pages, descriptors, reader.pread)
    copy = os.memfd_create("copy")
    try:
        for start in range(0, pages.size, PAGE):
            piece = mapping.view[start : start + PAGE]
            try:
                expected = reader.pread(len(piece), start)
            except FaultError:
                with pytest.raises(OSError, match="Bad address"):
                    os.pwrite(copy, piece, 0)
                continue
            os.pwrite(copy, piece, 0)
            assert os.pread(copy, len(piece), 0) == expected
    finally:
        os.close(copy)


@pytest.mark.mount
@given(files(st.sampled_from([Kind.ZERO, Kind.HOLE])))
def test_a_composite_has_the_bytes_that_reading_gives(
    sources: list[FileSource], table: Extents
) -> None:
    pages, descriptors, reader = cut(table, frozenset(), sources)
    file = open_composite(pages, descriptors, reader.pread)
    try:
        assert os.fstat(file).st_size == pages.size
        assert os.pread(file, pages.size + 1, 0) == reader.pread(pages.size, 0)
    finally:
        os.close(file)
