"""The pages of a kdump-compressed file as a source, decompressed on demand.

Its bytes are the stored pages, one after another, in the order of their descriptors; the table says
where each belongs in memory. Decompressed pages are kept in a bounded cache. For a reader that goes
through them in order, a thread reads ahead.

Threads may hang in the file, for good. So nobody waits for a thread that has not begun, nor long
for one that reads ahead: each reader can do all of its work by itself, and hangs only where the
file does.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.formats.kdump.descriptors import COMPRESSED, DESC_SIZE, desc_dtype
from vmcorefs.errors import SourceIOError, UnsupportedError
from vmcorefs.sources.base import Source, WithoutHoles, check_bounds
from vmcorefs.sources.dumps.dump import File
from vmcorefs.sources.dumps.page_codecs import Decompress, find_decompressor
from vmcorefs.sources.file import FileSource

CACHE_SIZE = 32 << 20
"""Bytes of decompressed pages in the cache."""

BATCH = 64
"""Pages that one thread decompresses at once."""

AHEAD = 4
"""Batches that are read ahead of a sequential reader."""

_CODEC = int(COMPRESSED)
_AT_ONCE = 512  # pages of one answer that are held in addition to the cache
_MAX_SPAN = 4 << 20
_GAP = 4096
_PATIENCE = 1.0
"""Seconds that a reader waits for pages that are being read ahead, before it reads them itself."""

Page = bytes | bytearray
T = TypeVar("T")


class DumpPages(WithoutHoles):
    """The stored pages of a kdump-compressed file.

    Attributes:
        name: The file's.
        origin: The file's.
        role: The file's.
        kind: The kind of source.
        size: Bytes in all pages.
        page_size: Bytes in one page.
    """

    kind = "pages of a kdump-compressed dump"

    def __init__(
        self, file: File, *, descriptors: int, count: int, page_size: int, byte_order: ByteOrder
    ) -> None:
        """Prepare to read pages.

        Args:
            file: The dump; closed with this object.
            descriptors: Where the page descriptors begin in it, in bytes.
            count: How many there are.
            page_size: Bytes in a page.
            byte_order: Of the descriptors.
        """
        self.name, self.origin, self.role = file.name, file.origin, file.role
        self.size = count * page_size
        self.page_size = page_size
        self._file = file
        self._descriptors = descriptors
        self._dtype = desc_dtype(byte_order)
        self._codecs: dict[int, Decompress] = {}
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
    def file(self) -> FileSource:
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

    def _decompress(self, first: int, end: int) -> list[Page]:
        try:
            at = self._descriptors + first * DESC_SIZE
            raw = _pread(self._file, at, (end - first) * DESC_SIZE)
        except SourceIOError as error:
            error.position = (error.position - self._descriptors) // DESC_SIZE * self.page_size
            raise
        descs = np.frombuffer(raw, dtype=self._dtype)
        offsets: Sequence[int] = descs["offset"].tolist()
        sizes: Sequence[int] = descs["size"].tolist()
        flags: Sequence[int] = descs["flags"].tolist()
        for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True), first):
            if offset <= 0 or not 0 < size <= self.page_size:
                what = "was lost" if offset == 0 else f"has {size} bytes at {offset:#x}"
                where = self._descriptors + number * DESC_SIZE
                raise self._bad_page(number, where, DESC_SIZE, f"stored page {number} {what}")
        done: dict[tuple[int, int, int], Page] = {}
        try:
            data = dict(self._read(offsets, sizes))
        except SourceIOError as error:
            at = error.position
            stored = zip(offsets, sizes, range(first, end), strict=True)
            _, number = min((offset, n) for offset, size, n in stored if offset + size > at)
            error.position = number * self.page_size
            raise
        wanted = list(zip(offsets, sizes, flags, strict=True))
        for number, (offset, size, flag) in enumerate(wanted, first):
            if (offset, size, flag) not in done:  # all pages of zeros are stored as one
                try:
                    page = self._page(data[offset][:size], flag)
                except ValueError as error:
                    raise self._bad_page(number, offset, size, str(error)) from error
                done[offset, size, flag] = page
        return [done[desc] for desc in wanted]

    def _bad_page(self, number: int, offset: int, size: int, reason: str) -> SourceIOError:
        at = number * self.page_size
        return SourceIOError(self.name, offset, size, reason, position=at, is_page=True)

    def _read(
        self, offsets: Sequence[int], sizes: Sequence[int]
    ) -> Iterator[tuple[int, memoryview]]:
        """The bytes at each offset; neighbouring ones are read at once."""
        order = sorted(set(zip(offsets, sizes, strict=True)))
        while order:
            start, end, count = order[0][0], 0, 0
            for offset, size in order:
                reach = max(end, offset + size)
                if count and (offset > end + _GAP or reach - start > _MAX_SPAN):
                    break
                end, count = reach, count + 1
            span = memoryview(_pread(self._file, start, end - start))
            for offset, _ in order[:count]:
                yield offset, span[offset - start :]
            order = order[count:]

    def _page(self, data: memoryview, flags: int) -> Page:
        """The page; ValueError, with the reason, if this is none."""
        codec = flags & _CODEC
        try:
            decompress = self._codecs.get(codec)
            if decompress is None:
                decompress = self._codecs[codec] = find_decompressor(flags)
            page = decompress(bytes(data), self.page_size)
        except (ValueError, UnsupportedError) as error:  # its codec need not be the header's
            raise ValueError(f"a page, but {error}") from error
        if len(page) != self.page_size:
            raise ValueError(f"a page of {len(page)} bytes, expected {self.page_size}")
        return page


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


def _stop_threads(alive: weakref.ref[DumpPages]) -> None:
    pages = alive()
    if pages is not None:
        pages._helpers.stop()  # noqa: SLF001  # its own
        pages._ahead.stop()  # noqa: SLF001
        pages._loading.clear()  # noqa: SLF001  # cancelled loads never leave it by themselves
        pages._helpers, pages._ahead = _Helpers(), _Helpers()  # noqa: SLF001


def _pread(file: Source, offset: int, size: int) -> bytearray:
    buffer = bytearray(size)
    file.pread_into(offset, memoryview(buffer))
    return buffer
