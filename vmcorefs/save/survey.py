"""The first pass over a dump: which pages are kept, counted and remembered for the second.

A format must know how many pages are kept before it writes the first. They are looked at once, as
the memory of a live machine may have changed the second time, and remembered as compressed windows
of kinds, in a temporary file once there are too many.
"""

from __future__ import annotations

import bisect
import io
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO, cast

import msgspec
import numpy as np

from vmcorefs.core.pages.dump_level import BoolArray, KindArray, PageKind
from vmcorefs.core.pages.selection import WINDOW, Selection, window_starts
from vmcorefs.core.space.extents import Kind
from vmcorefs.core.space.ranges import Ranges, normalise, true_runs
from vmcorefs.save.dump import Dump
from vmcorefs.save.pipeline import map_in_order
from vmcorefs.save.written import Counts, no_counts

ABSENT = 0xFF
"""Stands beside the ``PageKind``s: a page that is not RAM, or that is left out."""

_IN_MEMORY = 16 << 20


class Window(msgspec.Struct, frozen=True):
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
        ram: Page frame numbers of the pages that are RAM, if only in part; a normal set.
        kept: Pages that are kept, by kind, shape ``(8,)``.
        left_out: Pages that are not: the dump level leaves them out, or the image, a dump itself,
            lacks them.
    """

    def __init__(self, dump: Dump, threads: int) -> None:
        """Look at all of ``dump``'s pages.

        Args:
            dump: What is saved.
            threads: That ask what the pages were used for.

        Raises:
            SourceIOError: if the page array cannot be read.
        """
        lacking = dump.memory.table.only(Kind.EXCLUDED).ranges
        selection = Selection(dump.kinds, dump.ram, dump.level, lacking)
        self.ram = selection.ram
        self.kept: Counts = no_counts()
        self.left_out: Counts = no_counts()
        self._store = _Store()
        try:
            self._look(selection, threads)
        except BaseException:
            self.close()
            raise

    @property
    def max_mapnr(self) -> int:
        """One more than the highest page frame number of the RAM."""
        return int(self.ram[-1, 1]) if len(self.ram) else 0

    @property
    def pages(self) -> int:
        """How many pages are kept."""
        return int(self.kept.sum())

    def windows(self, first: int = 0, end: int | None = None) -> Iterator[Window]:
        """Go through windows that have kept pages, in order; from one thread at a time.

        Args:
            first: The first page frame number that is asked for.
            end: The first that is not; None for all. What else is in a window is ``ABSENT``.
        """
        end = self.max_mapnr if end is None else end
        for window in self._store.windows(first - WINDOW + 1, end):
            window.kinds[: max(first - window.first, 0)] = ABSENT
            window.kinds[max(end - window.first, 0) :] = ABSENT
            yield window

    def kept_ranges(self) -> Ranges:
        """Page frame numbers of the pages that are kept, as a normal set."""
        runs = [np.empty((0, 2), dtype=np.int64)]
        runs += [true_runs(window.kept) + window.first for window in self.windows()]
        return normalise(np.concatenate(runs))

    def close(self) -> None:
        """Forget what was found."""
        self._store.close()

    def _look(self, selection: Selection, threads: int) -> None:
        starts = window_starts(selection.ram)
        with closing(map_in_order(selection.look, starts, threads)) as windows:
            for first, kinds, kept, left_out in windows:
                self.kept += np.bincount(kinds[kept], minlength=len(PageKind))
                self.left_out += np.bincount(kinds[left_out], minlength=len(PageKind))
                self._store.add(Window(first, np.where(kept, kinds, np.uint8(ABSENT))))


class _Store:
    """Windows, compressed, in the order in which they were added."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int, int]] = []  # first, position, size
        self._file: BinaryIO = io.BytesIO()

    def add(self, window: Window) -> None:
        if window.kept.any():
            data = zlib.compress(window.kinds.tobytes(), 1)
            self._places.append((window.first, self._file.tell(), len(data)))
            self._file.write(data)
            if isinstance(self._file, io.BytesIO) and self._file.tell() > _IN_MEMORY:
                self._file = _to_disk(self._file)

    def windows(self, first: int, end: int) -> Iterator[Window]:
        """Those that begin in ``[first, end)``."""
        low, high = (bisect.bisect_left(self._places, (edge, 0, 0)) for edge in (first, end))
        for start, position, size in self._places[low:high]:
            self._file.seek(position)
            data = zlib.decompress(self._file.read(size))
            yield Window(start, np.frombuffer(data, dtype=np.uint8).copy())

    def close(self) -> None:
        self._file.close()


def _to_disk(held: io.BytesIO) -> BinaryIO:
    # here: it takes a machine of some hundred GiB to need one
    import tempfile  # noqa: PLC0415

    file = tempfile.TemporaryFile()  # noqa: SIM115  # close()
    file.write(held.getbuffer())
    return cast("BinaryIO", file)
