"""The pages of a kdump-compressed file as a source, in the order of their descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.formats.kdump.descriptors import COMPRESSED, DESC_SIZE, desc_dtype
from vmcorefs.errors import SourceIOError, UnsupportedError
from vmcorefs.sources.dumps.cached import CachedPages, Page, pread
from vmcorefs.sources.dumps.page_codecs import Decompress, find_decompressor
from vmcorefs.sources.input import File

_CODEC = int(COMPRESSED)
_MAX_SPAN = 4 << 20
_GAP = 4096


class DumpPages(CachedPages):
    """The stored pages of a kdump-compressed file.

    Attributes:
        kind: The kind of source.
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
        super().__init__(file, count=count, page_size=page_size)
        self._descriptors = descriptors
        self._dtype = desc_dtype(byte_order)
        self._codecs: dict[int, Decompress] = {}

    def _decompress(self, first: int, end: int) -> list[Page]:
        try:
            at = self._descriptors + first * DESC_SIZE
            raw = pread(self._file, at, (end - first) * DESC_SIZE)
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
            span = memoryview(pread(self._file, start, end - start))
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
