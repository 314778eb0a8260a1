"""Reads kdump-compressed files with ``struct`` alone."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

import cramjam
import lzo
import zstandard

PAGE = 4096

Rows = dict[int, tuple[int, int, int]]
"""Offset, size and flags of each stored page, by page frame number."""


@dataclass(frozen=True)
class KdumpFile:
    """A file that a 64-bit machine wrote.

    Attributes:
        data: All of its bytes.
        order: Its byte order.
    """

    data: bytes
    order: str = "<"

    def main(self, offset: int, kind: str) -> int:
        value: int = struct.unpack_from(self.order + kind, self.data, offset)[0]
        return value

    @property
    def status(self) -> int:
        return self.main(424, "I")

    @property
    def block(self) -> int:
        return self.main(428, "i")

    def sub(self, offset: int, kind: str = "Q") -> int:
        return self.main(self.block + offset, kind)

    @cached_property
    def bitmaps(self) -> tuple[set[int], set[int]]:
        """Pages that are RAM, and pages that are stored."""
        start = (1 + self.main(432, "i")) * self.block
        half = self.main(436, "I") // 2 * self.block
        return self._bits(start, half), self._bits(start + half, half)

    @property
    def descriptors(self) -> int:
        return (1 + self.main(432, "i") + self.main(436, "I")) * self.block

    @cached_property
    def rows(self) -> Rows:
        """The stored pages, in order."""
        first, end = (self.sub(80), self.sub(88)) if self.sub(12, "i") else (0, 1 << 62)
        mine = sorted(pfn for pfn in self.bitmaps[1] if first <= pfn < end)
        found: Rows = {}
        for row, pfn in enumerate(mine):
            at = self.descriptors + 24 * row
            offset, size, flags, page_flags = struct.unpack_from(self.order + "qIIQ", self.data, at)
            assert page_flags == 0
            found[pfn] = (offset, size, flags)
        return found

    def page(self, pfn: int) -> bytes | None:
        """A stored page; None if it was lost."""
        offset, size, flags = self.rows[pfn]
        if not offset:
            return None
        stored = self.data[offset : offset + size]
        assert len(stored) == size
        if flags == 0:
            return stored
        page = {1: _inflate, 2: _lzo, 4: _snappy, 0x20: _zstd}[flags](stored, self.block)
        assert size < self.block == len(page)
        return page

    @property
    def pages(self) -> dict[int, bytes | None]:
        return {pfn: self.page(pfn) for pfn in self.rows}

    def _bits(self, start: int, size: int) -> set[int]:
        bits = enumerate(self.data[start : start + size])
        return {8 * at + bit for at, byte in bits if byte for bit in range(8) if byte >> bit & 1}


def _inflate(data: bytes, _size: int) -> bytes:
    return zlib.decompress(data)


def _lzo(data: bytes, size: int) -> bytes:
    return bytes(lzo.decompress(data, False, size))


def _snappy(data: bytes, _size: int) -> bytes:
    return bytes(cramjam.snappy.decompress_raw(data))


def _zstd(data: bytes, _size: int) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data)
