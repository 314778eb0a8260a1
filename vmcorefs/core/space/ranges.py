"""Sets of addresses: int64 arrays of shape ``(n, 2)``, each row a half-open ``[start, end)``.

A set is *normal* when its rows are sorted, not empty and do not touch; every function here
returns a normal set, and all but ``normalise`` require one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from vmcorefs.core.space.columns import BoolArray

Int64Array = npt.NDArray[np.int64]
Ranges = Int64Array
"""Shape ``(n, 2)``, int64: start (inclusive) and end (exclusive), in bytes."""


def make_ranges(rows: Iterable[tuple[int, int]]) -> Ranges:
    """Build a normal set from ``(start, end)`` pairs in any order; overlaps are joined."""
    return normalise(np.array(list(rows), dtype=np.int64).reshape(-1, 2))


def normalise(ranges: Ranges) -> Ranges:
    """Sort rows and join those that overlap or touch; empty rows are dropped.

    The result may share its bytes with ``ranges``.
    """
    start, end = ranges[:, 0], ranges[:, 1]
    if (start < end).all() and (start[1:] > end[:-1]).all():
        return ranges
    if not (start < end).all():
        ranges = ranges[start < end]
    if len(ranges) < 2:
        return ranges.reshape(-1, 2)
    if not (ranges[1:, 0] >= ranges[:-1, 0]).all():
        ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    first = np.concatenate(([True], ranges[1:, 0] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.stack((ranges[first, 0], reach[last]), axis=1)


def pair_overlaps(
    a_start: Int64Array, a_end: Int64Array, b_start: Int64Array, b_end: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Find every pair of rows that overlap, with no Python loop.

    Args:
        a_start: Starts of the first rows, shape ``(n,)``, in any order.
        a_end: Their ends, exclusive.
        b_start: Starts of the second rows, shape ``(m,)``, sorted.
        b_end: Their ends, exclusive; the second rows do not overlap each other.

    Returns:
        Two index arrays of the same shape ``(k,)``: row of a, row of b; ordered by a, then b.
    """
    first = np.searchsorted(b_end, a_start, side="right")
    count = np.searchsorted(b_start, a_end, side="left")
    count -= first
    np.maximum(count, 0, out=count)
    first -= np.cumsum(count) - count  # by how much b's rows are ahead of the pairs' numbers
    a_row = np.repeat(np.arange(len(a_start), dtype=np.int64), count)
    b_row = np.repeat(first, count)
    b_row += np.arange(len(b_row), dtype=np.int64)
    return a_row, b_row


def intersect(a: Ranges, b: Ranges) -> Ranges:
    """The addresses that are in both normal sets."""
    if np.array_equal(a, b):
        return a
    if len(b) == 1:
        return _inside(a, *b[0].tolist())
    if len(a) == 1:
        return _inside(b, *a[0].tolist())
    a_row, b_row = pair_overlaps(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
    return normalise(
        np.stack(
            (np.maximum(a[a_row, 0], b[b_row, 0]), np.minimum(a[a_row, 1], b[b_row, 1])), axis=1
        )
    )


def _inside(ranges: Ranges, start: int, end: int) -> Ranges:
    """The addresses of the normal set ``ranges`` that are in ``[start, end)``, which is not empty.

    The result may share its bytes with ``ranges``.
    """
    first = np.searchsorted(ranges[:, 1], start, side="right")
    last = np.searchsorted(ranges[:, 0], end, side="left")
    inside = ranges[first:last]
    if len(inside) and (inside[0, 0] < start or inside[-1, 1] > end):
        return inside.clip(start, end)
    return inside


def complement(ranges: Ranges, start: int, end: int) -> Ranges:
    """The addresses of ``[start, end)`` that are not in the normal set ``ranges``."""
    if start >= end:
        return ranges[:0]
    edges = np.concatenate(([start], _inside(ranges, start, end).ravel(), [end]), dtype=np.int64)
    return normalise(edges.reshape(-1, 2))


def subtract(a: Ranges, b: Ranges) -> Ranges:
    """The addresses of the normal set ``a`` that are not in the normal set ``b``."""
    if not len(a) or np.array_equal(a, b):  # a large map costs much, and often nothing is left
        return a[:0]
    return intersect(a, complement(b, int(a[0, 0]), int(a[-1, 1])))


def round_out(ranges: Ranges, granule: int) -> Ranges:
    """The smallest normal set of whole granules, of ``granule`` bytes, that contains ``ranges``."""
    return pages_touched(ranges, granule) * granule


def round_in(ranges: Ranges, granule: int) -> Ranges:
    """The largest normal set of whole granules that is contained in ``ranges``."""
    return pages_within(ranges, granule) * granule


def pages_touched(ranges: Ranges, page_size: int) -> Ranges:
    """The page frame numbers of all pages that have a byte in a set of addresses."""
    return normalise(np.stack((ranges[:, 0] // page_size, -(-ranges[:, 1] // page_size)), axis=1))


def pages_within(ranges: Ranges, page_size: int) -> Ranges:
    """The page frame numbers of the pages that are wholly in a set of addresses."""
    return normalise(np.stack((-(-ranges[:, 0] // page_size), ranges[:, 1] // page_size), axis=1))


def mark(ranges: Ranges, first: int, count: int) -> BoolArray:
    """Which of the numbers ``[first, first + count)`` are in a normal set, shape ``(count,)``."""
    low = np.searchsorted(ranges[:, 1], first, side="right")
    high = np.searchsorted(ranges[:, 0], first + count, side="left")
    edges = ranges[low:high].clip(first, first + count) - first
    steps = np.zeros(count + 1, dtype=np.int8)
    steps[edges[:, 0]] = 1
    steps[edges[:, 1]] = -1
    return np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)


def true_runs(flags: BoolArray) -> Ranges:
    """The indices at which ``flags``, of shape ``(n,)``, is true, as a normal set."""
    edges = np.diff(np.concatenate(([False], flags, [False])).astype(np.int8))
    return np.flatnonzero(edges).reshape(-1, 2).astype(np.int64)


def distinct(values: Int64Array) -> Int64Array:
    """The distinct values, sorted: ``np.unique`` without the modules that it imports."""
    values = np.sort(values)
    first = np.ones(len(values), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def total_size(ranges: Ranges) -> int:
    """Bytes in a normal set."""
    return int((ranges[:, 1] - ranges[:, 0]).sum())
