"""Reading the pages that are kept: big reads, known zeros, and pages that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.pages.dump_level import BoolArray, KindArray
from vmcorefs.core.space.ranges import Int64Array, Ranges, normalise
from vmcorefs.errors import FaultError, SourceIOError
from vmcorefs.native import pages as native
from vmcorefs.output.losses import Loss, add_loss
from vmcorefs.save.dump import Dump
from vmcorefs.save.survey import Survey, Window

_BATCH = 2 << 20
"""Most bytes of pages that are read and compressed together."""

_BATCHES = 8 << 20
"""Most bytes of pages that all threads have read, unless there are dozens of them."""

_LEAST_BATCH = 1 << 17

PageArray = npt.NDArray[np.uint8]
"""Shape ``(n, page_size)``."""


class Batch(msgspec.Struct, frozen=True):
    """Some pages that are kept, for one thread.

    Attributes:
        pfns: Their page frame numbers, ascending, shape ``(n,)``.
        kinds: What they were used for, shape ``(n,)``.
    """

    pfns: Int64Array
    kinds: KindArray

    @property
    def runs(self) -> Ranges:
        """The same pages as ranges of page frame numbers."""
        return find_runs(self.pfns)


class Pages(msgspec.Struct, frozen=True):
    """What was read of a batch.

    Attributes:
        data: The pages; what stands in those that are zero or lost is undefined.
        zero: Which are nothing but zeros, shape ``(n,)``.
        lost: Which could not be read, shape ``(n,)``.
        losses: The lost ones; neighbours are one.
    """

    data: PageArray
    zero: BoolArray
    lost: BoolArray
    losses: tuple[Loss, ...]

    @property
    def stored(self) -> BoolArray:
        """Which have bytes to store, shape ``(n,)``."""
        return ~(self.zero | self.lost)


def find_runs(numbers: Int64Array) -> Ranges:
    """Ascending numbers as ranges; a normal set."""
    last = np.flatnonzero(np.diff(numbers) != 1)
    starts = np.concatenate((numbers[:1], numbers[last + 1]))
    ends = np.concatenate((numbers[last], numbers[-1:])) + 1
    return np.stack((starts, ends), axis=1)


def batch_pages(page_size: int, threads: int) -> int:
    """Pages in a batch: 2 MiB of them, and less if several threads have a batch at once."""
    size = min(max(_BATCHES // threads, _LEAST_BATCH), _BATCH)
    return max(size // page_size, 1)


def batches(
    survey: Survey, count: int, first: int = 0, end: int | None = None, *, skip: int = 0
) -> Iterator[Batch]:
    """The pages that are kept, in order.

    Args:
        survey: Which are.
        count: Most pages in a batch.
        first: The first page frame number that is asked for.
        end: The first that is not; None for all.
        skip: Kept pages that are passed over.
    """
    for window in survey.windows(first, end):
        kept = int(np.count_nonzero(window.kept))
        yield from split_batches(window, count, skip=skip)
        skip = max(skip - kept, 0)


def split_batches(window: Window, count: int, *, skip: int = 0) -> Iterator[Batch]:
    """The pages of one window that are kept, but the first ``skip`` of them."""
    where = np.flatnonzero(window.kept)[skip:]
    for at in range(0, len(where), count):
        part = where[at : at + count]
        yield Batch(part + window.first, window.kinds[part])


class PageReader:
    """Reads whole pages of a dump's memory; from any number of threads."""

    def __init__(self, dump: Dump) -> None:
        self.page_size = dump.kinds.page_size
        self._memory = dump.memory
        self._buffers: list[PageArray] = []  # the last one given back is the one in the CPU's cache
        # dump.ram alone would make zeros of RAM that no input holds
        self._ram = normalise(np.concatenate((dump.ram, dump.elfcorehdr.ram)))

    def read(self, batch: Batch) -> Pages:
        """Read the pages of ``batch``.

        What of a page is not RAM reads as zeros, as in makedumpfile (``readpage_elf``). A page that
        cannot be read whole is lost, and the others are not. When the data is no longer needed,
        ``give_back`` it: new memory costs the kernel as much as the pages read into it.
        """
        size = self.page_size
        data = self._take_buffer(len(batch.pfns))
        zero = np.zeros(len(data), dtype=np.bool_)
        lost = np.zeros(len(data), dtype=np.bool_)
        losses: list[Loss] = []
        row = 0
        for first, end in batch.runs.tolist():
            rows = slice(row, row + end - first)
            if self._memory.is_zero(first * size, (end - first) * size):
                zero[rows] = True
            else:
                lost[rows] = self._read_run(first, data[rows], losses)
            row = rows.stop
        unknown = ~(zero | lost)
        if unknown.all():
            zero = _are_zero(data)
        elif unknown.any():
            zero[unknown] = _are_zero(data[unknown])
        return Pages(data, zero, lost, tuple(losses))

    def places_in_file(self, runs: Ranges) -> tuple[int, Int64Array] | None:
        """Where some pages are in a file, if all of them are there as they were in RAM.

        Args:
            runs: Page frame numbers, a normal set of at least one range.

        Returns:
            See ``Reader.places_in_file``.
        """
        where = runs * self.page_size
        row = int(np.searchsorted(self._ram[:, 1], where[0, 0], side="right"))
        start, end = self._ram[row] if row < len(self._ram) else (0, 0)
        inside = start <= where[0, 0] and where[-1, 1] <= end
        return self._memory.places_in_file(where) if inside else None

    def give_back(self, pages: Pages) -> None:
        """Reuse the memory of ``pages.data``, which is no longer needed."""
        self._buffers.append(pages.data)

    def _take_buffer(self, count: int) -> PageArray:
        try:
            whole = self._buffers.pop().base
        except IndexError:
            whole = None
        if whole is None or len(whole) < count:
            whole = np.empty((count, self.page_size), dtype=np.uint8)
        return whole[:count]

    def _read_run(self, first: int, data: PageArray, losses: list[Loss]) -> BoolArray:
        lost = np.zeros(len(data), dtype=np.bool_)
        try:
            self._fill(first * self.page_size, data)
        except (FaultError, SourceIOError):
            for row in range(len(data)):
                lost[row] = not self._read_page(first + row, data[row], losses)
        return lost

    def _read_page(self, pfn: int, data: PageArray, losses: list[Loss]) -> bool:
        paddr = pfn * self.page_size
        try:
            self._fill(paddr, data)
        except (FaultError, SourceIOError) as error:
            add_loss(losses, Loss(paddr, self.page_size, str(error)))
            return False
        return True

    def _fill(self, paddr: int, data: PageArray) -> None:
        end = paddr + data.size
        low = int(np.searchsorted(self._ram[:, 1], paddr, side="right"))
        high = int(np.searchsorted(self._ram[:, 0], end, side="left"))
        view = data.reshape(-1).data
        if high - low == 1 and self._ram[low, 0] <= paddr and end <= self._ram[low, 1]:
            self._memory.pread_into(paddr, view)
            return
        data[:] = 0
        for start, stop in self._ram[low:high].clip(paddr, end).tolist():
            self._memory.pread_into(start, view[start - paddr : stop - paddr])


def _are_zero(data: PageArray) -> BoolArray:
    return native.find_zeros(data) if native.is_built() else are_zero(data)


def are_zero(data: PageArray) -> BoolArray:
    """Which pages are nothing but zeros, by numpy; see ``native.pages.find_zeros``."""
    words = data.view(np.uint64)
    # for most, a few words show that it is not
    zero: BoolArray = words[:, :: words.shape[1] // 8].max(axis=1) == 0
    rows = np.flatnonzero(zero)
    if len(rows):
        # of numpy's ways, the one whose speed does not depend on the data
        zero[rows] = (words if len(rows) == len(words) else words[rows]).max(axis=1) == 0
    return zero
