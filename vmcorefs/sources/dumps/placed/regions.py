"""Memory of formats that list its ranges, each in one run of a file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vmcorefs.core.space.extents import Extents, Kind, validate
from vmcorefs.core.space.ranges import Ranges, make_ranges, subtract, total_size
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import FormatError, LayoutError
from vmcorefs.sources.base import Source

Row = tuple[int, int, int]
"""A physical address, where its byte is in the source, and the bytes from there on."""


def stored_regions(rows: Iterable[Row], held: int) -> tuple[Extents, Ranges]:
    """What a source of ``held`` bytes has of some ranges, as source 0, and all of them.

    Raises:
        FormatError: if two ranges overlap.
    """
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
    start, offset, size = table.T
    kept = np.minimum(size, held - offset)
    some = kept > 0
    extents = Extents(
        start=start[some],
        size=kept[some],
        offset=offset[some],
        source=np.zeros(int(some.sum()), dtype=np.int32),
        kind=np.full(int(some.sum()), Kind.DATA, dtype=np.int8),
    )
    spans = list(zip(start.tolist(), (start + size).tolist(), strict=True))
    if (start[1:] < (start + size)[:-1]).any():
        raise FormatError("two ranges of memory overlap")
    try:
        return validate(extents), make_ranges(spans)
    except LayoutError as error:
        raise FormatError(str(error)) from error


def describe_cut(source: Source, ram: Ranges, held: Extents) -> str:
    """What is missing of ``ram`` because the file ends before it; empty if nothing is."""
    missing = subtract(ram, held.ranges)
    if not len(missing):
        return ""
    size, first = format_size(total_size(missing)), format_range(*missing[0].tolist())
    return f"{source.name}: {source.size} bytes: {size} of RAM are cut off, first {first}"
