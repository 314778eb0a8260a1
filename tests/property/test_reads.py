"""Reading: any split of a read is the whole read, and every byte of a buffer is written."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from tests.property.strategies import SPACE, Model, model_of, tables
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.errors import FaultError
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource


def _source_byte(source: int, offset: int) -> int:
    return (source + 1) * 50 + offset % 50


SOURCES = [BytesSource(str(n), bytes(_source_byte(n, i) for i in range(200))) for n in range(3)]
FAULTS = st.frozensets(st.sampled_from([Kind.ZERO, Kind.HOLE, Kind.MISSING]))


def expected_byte(model: Model, address: int, faults: frozenset[Kind]) -> int | None:
    """The byte at an address, or None where reading it is a fault."""
    if address not in model:
        return None
    kind, source, offset = model[address]
    if kind == Kind.DATA:
        return _source_byte(source, offset)
    return None if kind in faults else 0


@given(tables(), FAULTS, st.integers(0, SPACE + 4), st.integers(0, SPACE))
def test_a_read_gives_every_byte_of_the_model_or_the_first_fault(
    table: Extents, faults: frozenset[Kind], offset: int, size: int
) -> None:
    reader = Reader("memory", table, SOURCES, faults)
    wanted = [expected_byte(model_of(table), a, faults) for a in range(offset, offset + size)]
    buffer = bytearray(b"\xee" * (size + 2))
    if None in wanted:
        with pytest.raises(FaultError) as caught:
            reader.pread_into(offset, memoryview(buffer)[1:-1])
        first = offset + wanted.index(None)
        assert caught.value.offset == first
        fault = range(first, first + caught.value.size)
        assert len(fault) > 0
        assert all(wanted[address - offset] is None for address in fault)
    else:
        reader.pread_into(offset, memoryview(buffer)[1:-1])
        assert list(buffer) == [0xEE, *wanted, 0xEE]


@given(tables(), st.lists(st.integers(0, SPACE), max_size=8))
def test_any_split_of_a_read_equals_the_whole_read(table: Extents, cuts: list[int]) -> None:
    covered = model_of(table)
    reader = Reader("memory", table, SOURCES, frozenset())
    for start, end in table.ranges.tolist():
        whole = reader.pread(end - start, start)
        assert len(whole) == end - start
        assert set(range(start, end)) <= covered.keys()
        edges = sorted({start, end, *(cut for cut in cuts if start < cut < end)})
        dirty = bytearray(b"\xee" * SPACE)
        parts = b""
        for low, high in itertools.pairwise(edges):
            # one buffer again and again, as the daemon has it
            view = memoryview(dirty)[: high - low]
            reader.pread_into(low, view)
            parts += view
        assert parts == whole
