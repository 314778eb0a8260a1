"""A machine's memory as a reader, without files."""

from __future__ import annotations

from collections.abc import Sequence

from vmcorefs.core.space.extents import Extents, Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource


def reader_of(*pieces: tuple[int, bytes | bytearray]) -> Reader:
    """Physical memory that holds these bytes at these addresses, and nothing else."""
    sources = [BytesSource(f"piece {paddr:#x}", bytes(data)) for paddr, data in pieces]
    tables: Sequence[Extents] = [
        make_extents(make_ranges([(paddr, paddr + len(data))]), kind=Kind.DATA, source=number)
        for number, (paddr, data) in enumerate(pieces)
    ]
    return Reader("memory", merge(*tables), sources)
