"""The first pass over a dump: which pages are kept, counted, and kept in mind for the second.

A format must know how many pages are kept before it writes the first. They are told once, as the
memory may be a live machine's and tell otherwise the second time, and kept as compressed windows of
kinds: half a kilobyte for each GiB of memory, in a temporary file once there are too many.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vmcorefs.core.dump_level import BoolArray, KindArray, PageKind, left_out
from vmcorefs.core.ranges import Int64Array, Ranges, normalise
from vmcorefs.save.dump import Dump
from vmcorefs.save.written import Counts, no_counts

WINDOW = 1 << 16
"""Pages that are looked at together; their structures in the page array are about 4 MiB."""

ABSENT = 0xFF
"""Stands beside the ``PageKind``s: a page that is not RAM, or that is left out."""

_IN_MEMORY = 16 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a survey.

    Attributes:
        first: Its first page frame number, a multiple of ``WINDOW``.
        kinds: The kind of each page that is kept, and ``ABSENT``; shape ``(WINDOW,)``.
    """

    first: int
    kinds: KindArray

    @property
    def kept(self) -> BoolArray:
        """Which pages are kept, shape ``(WINDOW,)``."""
        return np.not_equal(self.kinds, ABSENT)


class Survey:
    """Which pages of a dump are kept.

    Attributes:
        max_mapnr: One more than the highest page frame number of the RAM.
        ram: Page frame numbers of the pages that are RAM, if only in part; a normal set.
        kept: Pages that are kept, by kind, shape ``(8,)``.
        left_out: Pages that are not.
    """

    def __init__(self, dump: Dump) -> None:
        self.ram = page_ranges(dump.ram, dump.kinds.page_size)
        self.max_mapnr = int(self.ram[-1, 1]) if len(self.ram) else 0
        self.kept: Counts = no_counts()
        self.left_out: Counts = no_counts()
        self._windows: list[tuple[int, int, int, int]] = []  # first, kept, position, size
        self._store = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  # close()
        try:
            self._look(dump)
        except BaseException:
            self.close()
            raise

    @property
    def pages(self) -> int:
        """How many pages are kept."""
        return int(self.kept.sum())

    def windows(self, first: int = 0, end: int | None = None) -> Iterator[Window]:
        """The windows that have kept pages in ``[first, end)``, in order; others there are absent.

        Pages of such a window that are outside of the range are ``ABSENT``.
        """
        end = self.max_mapnr if end is None else end
        for start, _kept, position, size in self._windows:
            if start + WINDOW <= first or start >= end:
                continue
            self._store.seek(position)
            kinds = np.frombuffer(zlib.decompress(self._store.read(size)), np.uint8).copy()
            kinds[: max(first - start, 0)] = ABSENT
            kinds[max(end - start, 0) :] = ABSENT
            yield Window(start, kinds)

    def counts(self) -> Int64Array:
        """First page frame number and kept pages of each window that has any, shape ``(n, 2)``."""
        rows = [(start, kept) for start, kept, _position, _size in self._windows]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    def close(self) -> None:
        """Throw away what was kept in mind."""
        self._store.close()

    def _look(self, dump: Dump) -> None:
        leaves_out = left_out(dump.level)
        for first in _window_starts(self.ram):
            present = np.zeros(WINDOW, dtype=np.bool_)
            for start, end in self._ram_in(first, first + WINDOW).tolist():
                present[start - first : end - first] = True
            kinds = self._ask(dump, first, present)
            keep = present & ~leaves_out[kinds]
            self.kept += np.bincount(kinds[keep], minlength=len(PageKind))
            self.left_out += np.bincount(kinds[present & ~keep], minlength=len(PageKind))
            if keep.any():
                self._remember(first, np.where(keep, kinds, np.uint8(ABSENT)))

    def _ram_in(self, first: int, end: int) -> Ranges:
        low = np.searchsorted(self.ram[:, 1], first, side="right")
        high = np.searchsorted(self.ram[:, 0], end, side="left")
        return self.ram[low:high].clip(first, end)

    def _ask(self, dump: Dump, first: int, present: BoolArray) -> KindArray:
        where = np.flatnonzero(present)
        low, high = int(where[0]), int(where[-1]) + 1
        kinds = np.zeros(WINDOW, dtype=np.uint8)
        kinds[low:high] = dump.kinds.of(first + low, high - low)
        return kinds

    def _remember(self, first: int, kinds: KindArray) -> None:
        data = zlib.compress(kinds.tobytes(), 1)
        kept = int(np.count_nonzero(kinds != ABSENT))
        self._windows.append((first, kept, self._store.tell(), len(data)))
        self._store.write(data)


def page_ranges(ram: Ranges, page_size: int) -> Ranges:
    """The page frame numbers of all pages that have a byte in ``ram``, as a normal set."""
    return normalise(np.stack((ram[:, 0] // page_size, -(-ram[:, 1] // page_size)), axis=1))


def _window_starts(ram: Ranges) -> Iterator[int]:
    done = 0
    for start, end in ram.tolist():
        for first in range(max(start // WINDOW * WINDOW, done), end, WINDOW):
            yield first
            done = first + WINDOW
