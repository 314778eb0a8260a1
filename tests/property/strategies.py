"""Small address spaces, so that hypothesis finds the edges: overlaps, touching ends, one byte."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from tests.builders.page_tables import MACHINES, Machine, Tables
from vmcorefs.core.space.extents import EMPTY, NO_SOURCE, Extents, Kind

SPACE = 64
"""Addresses of a model table are below this."""

Byte = tuple[int, int, int]
"""What is known of one byte: its kind, its source, its offset in it."""
Model = dict[int, Byte]

Span = tuple[int, int]


@st.composite
def spans(draw: st.DrawFn, space: int = SPACE) -> list[Span]:
    """Sorted half-open ranges that do not overlap, though some may touch."""
    edges = sorted(draw(st.sets(st.integers(0, space), max_size=12)))
    return [(a, b) for a, b in itertools.pairwise(edges) if draw(st.booleans())]


@st.composite
def tables(draw: st.DrawFn, space: int = SPACE) -> Extents:
    """Tables of every kind, with three sources."""
    rows = draw(spans(space))
    if not rows:
        return EMPTY
    kinds = [draw(st.sampled_from(Kind)) for _ in rows]
    data = [kind == Kind.DATA for kind in kinds]
    # few offsets, so that neighbours often continue each other
    offsets = [start + 100 * draw(st.integers(0, 1)) for start, _ in rows]
    return Extents(
        start=np.array([start for start, _ in rows], dtype=np.int64),
        size=np.array([end - start for start, end in rows], dtype=np.int64),
        offset=np.array(
            [o if d else 0 for o, d in zip(offsets, data, strict=True)], dtype=np.int64
        ),
        source=np.array(
            [draw(st.integers(0, 2)) if d else NO_SOURCE for d in data], dtype=np.int32
        ),
        kind=np.array(kinds, dtype=np.int8),
    )


def model_of(table: Extents) -> Model:
    """The same table, byte by byte."""
    model: Model = {}
    columns = (table.start, table.size, table.kind, table.source, table.offset)
    for start, size, kind, source, offset in zip(*(c.tolist() for c in columns), strict=True):
        for step in range(size):
            model[start + step] = (kind, source, offset + step if kind == Kind.DATA else 0)
    return model


machines = st.sampled_from(MACHINES)


@st.composite
def mapped_tables(draw: st.DrawFn, kinds: st.SearchStrategy[Machine] = machines) -> Tables:
    """Tables with pages of every size that do not overlap, crowded in a few places."""
    machine = draw(kinds)
    tables = Tables(machine)
    largest = max(machine.sizes)
    room = (machine.end - machine.start) // largest
    areas = draw(st.lists(st.integers(0, room - 1), min_size=1, max_size=4, unique=True))
    for area in areas:
        size = draw(st.sampled_from(machine.sizes))
        places = st.integers(0, min(largest // size, 600) - 1)
        shift = draw(st.integers(0, (1 << machine.paddr_bits) // size - 1))
        for place in draw(st.lists(places, min_size=1, max_size=12, unique=True)):
            vaddr = machine.start + area * largest + place * size
            # most are contiguous where their addresses are
            number = shift + place + draw(st.sampled_from((0, 0, 0, 7)))
            access = draw(st.sampled_from((1, 1, 2, 8, 15)))
            tables.map(vaddr, number * size % (1 << machine.paddr_bits), size, access)
    return tables
