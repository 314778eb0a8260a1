"""Pages that are stored in some other form, as a source: made when they are read, and kept.

Its bytes are the pages, one after another, in the order in which the file has them; a table says
where each belongs in memory. Pages are kept in a bounded cache. For a reader that goes through them
in order, a thread reads ahead.

Threads may hang in the file, for good. So nobody waits for a thread that has not begun, nor long
for one that reads ahead: each reader can do all of its work by itself, and hangs only where the
file does.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from vmcorefs.errors import SourceIOError
from vmcorefs.sources.base import Source, WithoutHoles, check_bounds
from vmcorefs.sources.input import File, Input

CACHE_SIZE = 32 << 20
"""Bytes of decompressed pages in the cache."""

BATCH = 64
"""Pages that one thread decompresses at once."""

AHEAD = 4
"""Batches that are read ahead of a sequential reader."""

_AT_ONCE = 512  # pages of one answer that are held in addition to the cache
_PATIENCE = 1.0
"""Seconds that a reader waits for pages that are being read ahead, before it reads them itself."""

Page = bytes | bytearray
T = TypeVar("T")


class CachedPages(WithoutHoles, ABC):
    """The stored pages of a file.

    Attributes:
        name: The file's.
        origin: The file's.
        role: The file's.
        size: Bytes in all pages.
        page_size: Bytes in one page.
    """

    def __init__(self, file: File, *, count: int, page_size: int) -> None:
        """Prepare to read pages.

        Args:
            file: What has them; closed with this object.
            count: How many there are.
            page_size: Bytes in a page.
        """
        self.name, self.origin, self.role = file.name, file.origin, file.role
        self.size = count * page_size
        self.page_size = page_size
        self._file = file
        self._lock = threading.Lock()
        self._pages: OrderedDict[int, Page] = OrderedDict()
        # the batches that are being read ahead; None if that takes so long that nobody waits for it
        self._loading: dict[int, Future[None] | None] = {}
        self._expected = -1
        self._helpers, self._ahead = _Helpers(), _Helpers()
        # a daemon opens its dump before it goes to the background, and threads do not survive that
        alive = weakref.ref(self)
        os.register_at_fork(before=lambda: _stop_threads(alive))

    @property
    def file(self) -> Input:
        """The file that everything is read from."""
        return self._file.file

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        end = offset + len(buffer)
        check_bounds(self, offset, len(buffer), "its pages have")
        size = self.page_size
        last = -(-end // size)
        for first in range(offset // size, last, _AT_ONCE):
            for number, page in enumerate(self._get(first, min(last, first + _AT_ONCE)), first):
                low = max(offset - number * size, 0)
                high = min(end - number * size, size)
                at = number * size + low - offset
                buffer[at : at + high - low] = memoryview(page)[low:high]
        self._read_ahead(offset // size, last)

    def close(self) -> None:
        """See ``Source.close``."""
        self._helpers.stop()
        self._ahead.stop()
        self._file.close()

    def _get(self, first: int, end: int) -> list[Page]:
        """The pages ``[first, end)``, from the cache as far as possible."""
        found: dict[int, Page] = {}
        self._take(first, end, found)
        if len(found) < end - first:
            self._wait_for(self._loading_of(first, end, found))
            self._take(first, end, found)
        missing = np.array([n for n in range(first, end) if n not in found], dtype=np.int64)
        for run in np.split(missing, np.flatnonzero(np.diff(missing) != 1) + 1):
            if len(run):
                found.update(self._load(int(run[0]), int(run[-1]) + 1))
        return [found[number] for number in range(first, end)]

    def _take(self, first: int, end: int, found: dict[int, Page]) -> None:
        with self._lock:
            for number in range(first, end):
                page = self._pages.get(number)
                if page is not None and number not in found:
                    self._pages.move_to_end(number)
                    found[number] = page

    def _loading_of(self, first: int, end: int, found: dict[int, Page]) -> dict[Future[None], int]:
        missing = {number // BATCH for number in range(first, end) if number not in found}
        with self._lock:
            loading = {self._loading.get(batch): batch for batch in missing}
        return {future: batch for future, batch in loading.items() if future is not None}

    def _wait_for(self, loading: dict[Future[None], int]) -> None:
        """Wait for what is being read ahead; a failure is met again by who reads it himself."""
        late = wait(loading, timeout=_PATIENCE).not_done
        with self._lock:
            for future in late:
                if self._loading.get(loading[future]) is future:
                    self._loading[loading[future]] = None

    def _load(self, first: int, end: int) -> dict[int, Page]:
        """Decompress the pages ``[first, end)``, with the help of idle threads."""
        parts = [(start, min(start + BATCH, end)) for start in range(first, end, BATCH)]
        helped = {part: self._helpers.start(self._decompress, *part) for part in parts[1:]}
        pages: list[Page] = []
        for part in parts:
            future = helped.get(part)
            pages += self._decompress(*part) if future is None else future.result()
        loaded = dict(enumerate(pages, first))
        self._keep(loaded)
        return loaded

    def _keep(self, loaded: dict[int, Page]) -> None:
        most = max(CACHE_SIZE // self.page_size, 1)
        with self._lock:
            self._pages.update(loaded)
            while len(self._pages) > most:
                self._pages.popitem(last=False)

    def _read_ahead(self, first: int, end: int) -> None:
        """Have the next batches read, if this read starts where the last one ended."""
        with self._lock:
            in_order, self._expected = first in (self._expected, self._expected - 1), end
            if not in_order:
                return
            next_batch = -(-end // BATCH)
            for batch in range(next_batch, next_batch + AHEAD):
                known = batch in self._loading or batch * BATCH in self._pages
                if not known and batch * BATCH * self.page_size < self.size:
                    future = self._ahead.start(self._load_batch, batch)
                    if future is None:
                        return
                    self._loading[batch] = future

    def _load_batch(self, batch: int) -> None:
        try:
            last = self.size // self.page_size
            first, end = batch * BATCH, min((batch + 1) * BATCH, last)
            self._keep(dict(enumerate(self._decompress(first, end), first)))
        finally:
            with self._lock:
                self._loading.pop(batch, None)

    @abstractmethod
    def _decompress(self, first: int, end: int) -> list[Page]:
        """The pages ``[first, end)``, each of ``page_size`` bytes.

        Raises:
            SourceIOError: with ``position`` as a byte of this source, if one cannot be made.
        """

    def _bad_page(self, number: int, offset: int, size: int, reason: str) -> SourceIOError:
        at = number * self.page_size
        return SourceIOError(self.name, offset, size, reason, position=at, is_page=True)


class _Helpers:
    """A few threads that do work at once or not at all: nothing waits for one that hangs."""

    def __init__(self) -> None:
        count = min(os.cpu_count() or 1, AHEAD)
        self._idle = threading.Semaphore(count)
        self._threads = ThreadPoolExecutor(count, "pages")  # starts none before it is asked

    def start(self, work: Callable[..., T], *args: int) -> Future[T] | None:
        """Have a thread do ``work``; None if none is idle."""
        if not self._idle.acquire(blocking=False):
            return None
        try:
            future = self._threads.submit(work, *args)
        except BaseException as error:
            self._idle.release()
            if isinstance(error, RuntimeError):  # no thread can be started
                return None
            raise
        future.add_done_callback(lambda _: self._idle.release())
        return future

    def stop(self) -> None:
        """Wait for the end of what has begun."""
        self._threads.shutdown(cancel_futures=True)


def _stop_threads(alive: weakref.ref[CachedPages]) -> None:
    pages = alive()
    if pages is not None:
        pages._helpers.stop()  # noqa: SLF001  # its own
        pages._ahead.stop()  # noqa: SLF001
        pages._loading.clear()  # noqa: SLF001  # cancelled loads never leave it by themselves
        pages._helpers, pages._ahead = _Helpers(), _Helpers()  # noqa: SLF001


def pread(file: Source, offset: int, size: int) -> bytearray:
    """The bytes of a file; the errors are those of ``Source.pread_into``."""
    buffer = bytearray(size)
    file.pread_into(offset, memoryview(buffer))
    return buffer
