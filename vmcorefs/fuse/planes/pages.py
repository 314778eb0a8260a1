"""A file's table cut into whole pages, which a mapping or file system can show without a copy."""

from __future__ import annotations

import msgspec
import numpy as np

from vmcorefs.core.space.extents import Extents, Kind, coalesce, make_extents, merge
from vmcorefs.core.space.ranges import Ranges, intersect, normalise, subtract
from vmcorefs.core.space.units import align_up

PAGE = 4096


class Pages(msgspec.Struct, frozen=True):
    """Every page of a file, by how it can be shown.

    Attributes:
        table: From 0 to the file's size rounded up, without a gap, whole pages. DATA: pages of a
            source, ``offset`` a multiple of the page; ZERO: pages that read as zeros; MISSING:
            pages with a byte that is an error to read; HOLE: pages that must be copied, as they
            come from several sources, or are not on page boundaries.
        size: Bytes in the file.
    """

    table: Extents
    size: int

    @property
    def copied(self) -> Ranges:
        """The pages that must be copied, as a normal set of file offsets."""
        return self.table.only(Kind.HOLE).ranges

    @property
    def has_faults(self) -> bool:
        """Whether some page is an error to read."""
        return bool((self.table.kind == Kind.MISSING).any())


def cut_into_pages(table: Extents, faults: frozenset[Kind], shown: frozenset[int]) -> Pages:
    """Cut a file's table into whole pages.

    Args:
        table: Covers ``[0, size)`` without a gap.
        faults: Kinds that are an error to read.
        shown: The sources whose pages can be shown in place; the others are copied.
    """
    if not len(table):
        return Pages(table, 0)
    size = int(table.end[-1])
    whole = np.array([[0, align_up(size, PAGE)]], dtype=np.int64)
    table = coalesce(table)
    is_data = table.kind == Kind.DATA
    is_fault = np.isin(table.kind, list(faults))
    start = -(-table.start // PAGE) * PAGE
    length = table.end // PAGE * PAGE
    # past the end of the file, zeros do no harm
    length[-1] = whole[0, 1] if not is_data[-1] else length[-1]
    length -= start
    fits = np.isin(table.source, list(shown)) & ((table.start - table.offset) % PAGE == 0)
    fit = (length > 0) & ~is_fault & (~is_data | fits)
    kept = slice(None) if fit.all() else fit  # without a copy
    offset = start - table.start
    offset += table.offset
    offset[~is_data] = 0
    body = Extents(
        start=start[kept],
        size=length[kept],
        offset=offset[kept],
        source=table.source[kept],
        kind=np.where(is_data, np.int8(Kind.DATA), np.int8(Kind.ZERO))[kept],
    )
    lost = _round_out(table.rows(is_fault))
    rest = subtract(whole, body.ranges)
    return Pages(
        coalesce(
            merge(
                body,
                make_extents(intersect(rest, lost), kind=Kind.MISSING),
                make_extents(subtract(rest, lost), kind=Kind.HOLE),
            )
        ),
        size,
    )


def _round_out(table: Extents) -> Ranges:
    start, end = table.start // PAGE * PAGE, -(-table.end // PAGE) * PAGE
    return normalise(np.stack((start, end), axis=1))
