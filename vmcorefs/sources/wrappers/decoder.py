"""Compressed data, read and decompressed forwards."""

from __future__ import annotations

from typing import Protocol

from vmcorefs.sources.base import Source


class Decoder(Protocol):
    """Data that is decompressed forwards."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer``; return how many bytes were filled, fewer only at the end.

        Raises:
            ValueError: with the reason, if the data is damaged.
            SourceIOError: if it cannot be read.
        """


class Feed:
    """The compressed bytes of a part of a file, read in order.

    Attributes:
        at: Offset of the first byte that was not taken yet.
    """

    def __init__(self, file: Source, at: int, end: int | None = None, step: int = 1 << 17) -> None:
        self._file, self.at = file, at
        self._end = file.size if end is None else end
        self._step = step
        self._buffer = bytearray(step)
        self._first, self._last = 0, 0

    def view(self) -> memoryview:
        """What is next, and was not taken; empty at the end.

        Raises:
            SourceIOError: if it cannot be read.
        """
        if self._first == self._last:
            count = max(min(self._step, self._end - self.at), 0)
            self._file.pread_into(self.at, memoryview(self._buffer)[:count])
            self._first, self._last = 0, count
        return memoryview(self._buffer)[self._first : self._last]

    def take(self, count: int) -> None:
        """Go on behind the next ``count`` bytes, which may be more than ``view`` has."""
        self.at += count
        self._first = min(self._first + count, self._last)

    def back(self, count: int) -> None:
        """Give back the last ``count`` bytes that were taken of one ``view``."""
        self._first -= count
        self.at -= count

    def skip_zeros(self) -> None:
        """Go on at the next byte that is not zero, or at the end."""
        while len(view := self.view()):
            data = bytes(view)
            left = len(data.lstrip(b"\0"))
            self.take(len(data) - left)
            if left:
                return

    def peek(self, count: int) -> bytes:
        """The next ``count`` bytes, or those before the end; they are not taken."""
        view = self.view()
        if len(view) >= count:
            return bytes(view[:count])
        buffer = bytearray(max(min(count, self._end - self.at), 0))
        self._file.pread_into(self.at, memoryview(buffer))
        return bytes(buffer)

    def read(self, size: int = -1) -> bytes:
        """Take up to ``size`` bytes, and return them; empty at the end."""
        view = self.view()
        data = bytes(view if size < 0 else view[:size])
        self.take(len(data))
        return data
