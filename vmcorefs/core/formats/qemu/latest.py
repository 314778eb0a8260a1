"""Runs of pages of which some were written more than once: the last of each page counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmcorefs.core.space.ranges import Int64Array

_WINDOW = 1 << 30
"""Bytes of address space whose pages are sorted together."""

_ENOUGH = 1 << 20
"""Pages to be sorted at once: more only if so many are in one window."""


def latest(runs: Int64Array, page_size: int) -> Int64Array:
    """The last of each page.

    Args:
        runs: In the order in which they were written; the columns are those of ``Pages.table``.
        page_size: Bytes in a page.

    Returns:
        Runs that do not overlap, sorted by where they begin; the columns are the same.
    """
    order = runs[np.argsort(runs[:, 0], kind="stable")]
    end = order[:, 0] + order[:, 1] * page_size
    if (order[1:, 0] >= np.maximum.accumulate(end)[:-1]).all():
        return order
    return np.concatenate([_last_of_each(part, page_size) for part in _parts(runs, page_size)])


def _parts(runs: Int64Array, page_size: int) -> Iterator[Int64Array]:
    """Runs that share no page with those of another part, each part in the order of writing."""
    first, last = runs[:, 0] // _WINDOW, (runs[:, 0] + runs[:, 1] * page_size - 1) // _WINDOW
    pieces = last - first + 1
    row = np.repeat(np.arange(len(runs)), pieces)
    number = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    cut = runs[row]
    start = np.maximum(cut[:, 0], (first[row] + number) * _WINDOW)
    end = np.minimum(cut[:, 0] + cut[:, 1] * page_size, (first[row] + number + 1) * _WINDOW)
    cut = _from(cut, (start - cut[:, 0]) // page_size, page_size)
    cut[:, 1] = (end - start) // page_size
    window = cut[:, 0] // _WINDOW
    order = np.argsort(window, kind="stable")
    cut, window = cut[order], window[order]
    edges = np.flatnonzero(np.diff(window)) + 1
    total = np.concatenate(([0], np.cumsum(cut[:, 1])))
    begin = 0
    for edge in (*edges.tolist(), len(cut)):
        if total[edge] - total[begin] >= _ENOUGH or edge == len(cut):
            yield cut[begin:edge]
            begin = edge


def _last_of_each(runs: Int64Array, page_size: int) -> Int64Array:
    count = runs[:, 1]
    row = np.repeat(np.arange(len(runs)), count)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    page = runs[row, 0] // page_size + number
    order = np.argsort(page, kind="stable")
    page = page[order]
    chosen = order[np.append(page[1:] != page[:-1], True)]
    row, number = row[chosen], number[chosen]
    goes_on = (row[1:] == row[:-1]) & (number[1:] == number[:-1] + 1)
    first = np.flatnonzero(np.append(True, ~goes_on))
    found = _from(runs[row[first]], number[first], page_size)
    found[:, 1] = np.diff(np.append(first, len(row)))
    return found


def _from(runs: Int64Array, skipped: Int64Array, page_size: int) -> Int64Array:
    """The runs without their first pages."""
    to, count, at, pitch = runs.T
    moved = np.where(at < 0, at, at + skipped * pitch)
    return np.stack((to + skipped * page_size, count - skipped, moved, pitch), axis=1)
