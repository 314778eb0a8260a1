"""Reading a file from front to back in large pieces, a few bytes at a time."""

from __future__ import annotations

from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]
"""From ``(offset, size)`` to the bytes there: fewer at the end of the file."""

_SIZE = 1 << 20


class Window:
    """The last large piece that was read."""

    def __init__(self, read: ReadAt, size: int) -> None:
        """Prepare to read.

        Args:
            read: Reads the file; its errors are those of ``take``.
            size: Bytes in the file.
        """
        self.size = size
        self._read = read
        self._start, self._data = 0, b""

    def take(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes at ``offset``, at most 1 MiB; fewer at the end of the file."""
        return bytes(self.peek(offset, size)[:size])

    def peek(self, offset: int, size: int) -> memoryview:
        """At least the ``size`` bytes at ``offset``; fewer at the end of the file."""
        inside = offset - self._start
        if inside < 0 or inside + size > len(self._data):
            self._start, inside = offset, 0
            self._data = self._read(offset, max(min(_SIZE, self.size - offset), 0))
        return memoryview(self._data)[inside:]
