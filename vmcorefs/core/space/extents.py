"""The extent table: for every range of an address space, where its bytes come from.

The same table serves the physical address space and each file of the tree. It is computed once,
when an image is opened, and searched on every read. Layers (the backup over the image, RAM only,
without the crash kernel) are functions from table to table, so they cost nothing at read time.
Columns are int64, not uint64: numpy turns a uint64 ``searchsorted`` with a Python int into a
float64 one, and unsigned subtraction wraps silently (docs/decisions/0001).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.space.columns import Columns, run_edges
from vmcorefs.core.space.ranges import (
    Int64Array,
    Ranges,
    complement,
    normalise,
    pair_overlaps,
    subtract,
)
from vmcorefs.core.space.units import MAX_ADDRESS, format_range
from vmcorefs.errors import LayoutError

NO_SOURCE = -1


_FEW = 8  # tables, each of which is looked for in the whole


class Kind(IntEnum):
    """What is known about an extent's bytes; absence has kinds, each assigned on purpose."""

    DATA = 0
    """Stored in a source."""
    ZERO = 1
    """Known to be zeros."""
    HOLE = 2
    """Not RAM."""
    MISSING = 3
    """RAM that no input holds."""
    EXCLUDED = 4
    """RAM that a dump level left out on purpose: its content is not known."""


class Extents(Columns, frozen=True, eq=False):
    """A table of ``n`` extents, sorted by ``start``, none empty, none overlapping.

    Attributes:
        start: First address of each extent, shape ``(n,)``, int64, bytes.
        size: Bytes in each extent, shape ``(n,)``, int64.
        offset: Where its first byte is in its source, shape ``(n,)``, int64, bytes; 0 unless DATA.
        source: Index into the image's list of sources, shape ``(n,)``, int32; ``NO_SOURCE`` unless
            DATA.
        kind: A ``Kind``, shape ``(n,)``, int8.
    """

    start: Int64Array
    size: Int64Array
    offset: Int64Array
    source: npt.NDArray[np.int32]
    kind: npt.NDArray[np.int8]

    @property
    def end(self) -> Int64Array:
        """One past the last address of each extent, shape ``(n,)``."""
        return self.start + self.size

    @property
    def ranges(self) -> Ranges:
        """The addresses that the table covers, whatever their kind, as a normal set."""
        return normalise(np.stack((self.start, self.end), axis=1))

    def only(self, *kinds: Kind) -> Extents:
        """The rows whose kind is one of ``kinds``."""
        return self.rows(np.isin(self.kind, kinds))


def make_extents(
    ranges: Ranges, *, kind: Kind, source: int = NO_SOURCE, offset: int = 0
) -> Extents:
    """Build a table with one extent for each range.

    Args:
        ranges: A normal set.
        kind: The kind of all of them.
        source: Index of the source, if ``kind`` is DATA.
        offset: Where the first range's first byte is in the source; the other ranges keep their
            distance from it.
    """
    start = ranges[:, 0]
    held = kind is Kind.DATA and len(ranges) > 0
    return Extents(
        start=start,
        size=ranges[:, 1] - start,
        offset=start - start[0] + offset if held else np.zeros_like(start),
        source=np.full(len(start), source, dtype=np.int32),
        kind=np.full(len(start), kind, dtype=np.int8),
    )


EMPTY = make_extents(np.empty((0, 2), dtype=np.int64), kind=Kind.HOLE)
"""The empty table."""


def validate(extents: Extents) -> Extents:
    """Check the invariants of ``Extents`` and return the table.

    Raises:
        LayoutError: if a row is empty, negative, above ``MAX_ADDRESS``, out of order, or overlaps
            the one before it.
    """
    start, end = extents.start, extents.end
    # a sum beyond int64 wraps to a negative end, so end <= start catches that too
    bad = (extents.size <= 0) | (start < 0) | (end <= start) | (extents.offset < 0)
    bad[1:] |= start[1:] < end[:-1]
    if bad.any():
        row = int(np.argmax(bad))
        first, last = int(start[row]), int(start[row]) + int(extents.size[row])
        before = f" after {format_range(int(start[row - 1]), int(end[row - 1]))}" if row else ""
        raise LayoutError(
            f"extent {row} {format_range(first, last)}{before}: empty, out of order, overlapping"
            f" or beyond {MAX_ADDRESS:#x}"
        )
    return extents


def merge(*tables: Extents) -> Extents:
    """Put tables that do not overlap into one, in order of address.

    Raises:
        LayoutError: if two rows overlap.
    """
    held = [table for table in tables if len(table)] or tables[:1]
    if len(held) == 1:
        return validate(held[0])
    start = np.concatenate([table.start for table in held])
    if (start[1:] >= start[:-1]).all():
        del start
        return validate(Extents.join(held))
    order = np.argsort(start, kind="stable")
    if len(held) > _FEW:
        return validate(Extents.join(held).rows(order))
    # two large tables are woven without a copy of both
    number = np.repeat(np.arange(len(held), dtype=np.int32), [len(table) for table in held])
    number = number[order]
    del start, order
    return validate(Extents.weave(held, number))


class Windows(Columns, frozen=True, eq=False):
    """Ranges of one address space and where each appears in another.

    Attributes:
        start: First address of each window in the space it is taken from, shape ``(n,)``, int64,
            bytes. Windows may overlap here: a vmcore has the kernel's text twice.
        size: Bytes in each window, shape ``(n,)``, int64.
        to: First address at which it appears, shape ``(n,)``, int64; sorted, not overlapping.
    """

    start: Int64Array
    size: Int64Array
    to: Int64Array

    @property
    def end(self) -> Int64Array:
        """One past the last address of each window in the space it is taken from."""
        return self.start + self.size


def line_up(start: Int64Array, size: Int64Array, to: int) -> Windows:
    """Windows that follow each other without a gap from address ``to``; empty ones are dropped."""
    shown = size > 0
    start, size = start[shown], size[shown]
    return Windows(start, size, to + np.cumsum(size) - size)


def project(extents: Extents, windows: Windows) -> Extents:
    """Move what a table has of each window to the window's new place.

    ::

        extents   |aaaaaa|  |bbbbbb|
        windows      |----1----|    (to 0)      |-2-| (to 100)
        result    0 |aaa|  |bb|     100 |...|

    What the table does not have of a window is left out; ``fill`` gives it a kind.
    """
    window, row = pair_overlaps(windows.start, windows.end, extents.start, extents.end)
    # in place where it can be: a large machine's table has millions of rows
    start = np.maximum(extents.start[row], windows.start[window])
    size = np.minimum(extents.end[row], windows.end[window])
    size -= start
    offset = (extents.offset - extents.start)[row]
    offset += start
    kind = extents.kind[row]
    offset[kind != Kind.DATA] = 0
    start += (windows.to - windows.start)[window]
    return Extents(start, size, offset, extents.source[row], kind)


def restrict(extents: Extents, ranges: Ranges) -> Extents:
    """Keep what is inside the normal set ``ranges``; rows that cross its edges are cut."""
    if not len(subtract(extents.ranges, ranges)):
        return extents
    start = ranges[:, 0]
    return project(extents, Windows(start, ranges[:, 1] - start, start))


def exclude(extents: Extents, ranges: Ranges) -> Extents:
    """Drop what is inside the normal set ``ranges``; rows that cross its edges are cut."""
    return restrict(extents, complement(ranges, 0, MAX_ADDRESS)) if len(ranges) else extents


def overlay(lower: Extents, upper: Extents) -> Extents:
    """Lay ``upper`` over ``lower``: where both have an address, ``upper`` wins.

    ::

        lower   |aaaaaaaaaaaaaaaa|      |bbbbbb|
        upper        |UUUU|          |UU|
        result  |aaaa|UUUU|aaaaaa|   |UU|bbbbbb|
    """
    return merge(exclude(lower, upper.ranges), upper)


def relocate(extents: Extents, delta: int) -> Extents:
    """Move every extent by ``delta`` bytes (negative: down); the bytes stay the same."""
    return validate(replace(extents, start=extents.start + delta))


def fill(extents: Extents, ranges: Ranges, kind: Kind) -> Extents:
    """Give everything in the normal set ``ranges`` that is not in the table the kind ``kind``."""
    gaps = subtract(ranges, extents.ranges)
    return merge(extents, make_extents(gaps, kind=kind)) if len(gaps) else extents


def coalesce(extents: Extents) -> Extents:
    """Join neighbours that are one run: of one kind and, for DATA, contiguous in one source."""
    if len(extents) < 2:
        return extents
    start, end = extents.start, extents.end
    joins = (
        (start[1:] == end[:-1])
        & (extents.kind[1:] == extents.kind[:-1])
        & (extents.source[1:] == extents.source[:-1])
        & (
            (extents.kind[1:] != Kind.DATA)
            | (extents.offset[1:] == extents.offset[:-1] + extents.size[:-1])
        )
    )
    if not joins.any():
        return extents
    first, last = run_edges(joins)
    return replace(extents.rows(first), size=end[last] - start[first])
