"""Inputs as they are looked at to find out what they are: what cannot be read is absent.

A bad sector, or a page of a dump that cannot be decompressed, must not keep the rest from being
opened and saved. A read that touches one raises ``UnreadableError``, as if no input held those
bytes; which pages they are is found out once, and listed for the user. What reads memory to serve
it does not go through this: its readers get the error itself.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence

from vmcorefs.core.space.units import PAGE_SIZE, align_up, page_in_the_middle
from vmcorefs.errors import FaultError, SourceIOError, UnreadableError
from vmcorefs.sources.base import Source

_MAX_FAILURES = 64
"""Failed reads, each of which may take a disk seconds, to find the bad pages of one request."""

_MAX_KEPT = 1 << 13  # more are met again and again, but not listed

Bad = tuple[int, int, str]
"""Start and end in bytes of the source, and why they cannot be read."""


class LookedAt:
    """A source whose bytes are looked at."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name, self.origin = source.name, source.origin
        self.role, self.size = source.role, source.size
        self._bad: list[Bad] = []  # sorted, and no two overlap
        self._told: set[int] = set()
        self._lock = threading.Lock()

    @property
    def has_bad(self) -> bool:
        """Whether something could not be read so far."""
        return bool(self._bad)

    def take_bad(self) -> list[Bad]:
        """What could not be read and was not taken yet, in order; neighbours are joined."""
        joined: list[Bad] = []
        for start, end, why in self._bad:
            if start in self._told:
                continue
            self._told.add(start)
            if joined and joined[-1][1] == start:
                joined[-1] = (joined[-1][0], end, joined[-1][2])
            else:
                joined.append((start, end, why))
        return joined

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``.

        Raises:
            UnreadableError: if not all bytes can be read; it names the first that cannot.
        """
        end = offset + len(buffer)
        self._refuse(offset, end, self._bad)  # trying again may take long
        try:
            self.source.pread_into(offset, buffer)
        except SourceIOError as error:
            found = self._narrow(offset, buffer, error)
            self._keep(found)
            self._refuse(offset, end, found)

    def _refuse(self, start: int, end: int, bad: list[Bad]) -> None:
        row = max(bisect_right(bad, start, key=lambda each: each[0]) - 1, 0)
        for low, high, why in bad[row : row + 2]:
            if low < end and start < high:
                first = max(low, start)
                raise UnreadableError(self.name, first, min(high, end) - first, why)

    def _keep(self, found: list[Bad]) -> None:
        with self._lock:
            known = list(self._bad)
            for start, end, why in found:
                row = bisect_right(known, start, key=lambda each: each[0])
                # another thread may have met it too, or a part of it
                low = max(start, known[row - 1][1] if row else 0)
                high = min(end, known[row][0] if row < len(known) else end)
                if low < high and len(known) < _MAX_KEPT:
                    known.insert(row, (low, high, why))
            self._bad = known  # replaced as a whole: readers need no lock

    def _narrow(self, offset: int, buffer: memoryview, error: SourceIOError) -> list[Bad]:
        """Which pages of a request are bad, in order; all that was not tried is, too."""
        left = _MAX_FAILURES
        found: list[Bad] = []
        parts = [(0, len(buffer), error)]
        while parts:
            start, end, why = parts.pop()
            middle = page_in_the_middle(offset + start, offset + end) - offset
            if middle >= end or left <= 0:
                # what else is in a page of which a part is bad is bad too
                low = (offset + start) // PAGE_SIZE * PAGE_SIZE
                high = min(align_up(offset + end, PAGE_SIZE), max(self.size, offset + end))
                found.append((low, high, str(why)))
                continue
            for low, high in ((middle, end), (start, middle)):
                try:
                    self.source.pread_into(offset + low, buffer[low:high])
                except SourceIOError as other:
                    left -= 1
                    parts.append((low, high, other))
        return found

    def is_hole(self, offset: int, size: int) -> bool:
        """See ``Source.is_hole``."""
        return self.source.is_hole(offset, size)

    def next_data(self, offset: int, end: int) -> int:
        """See ``Source.next_data``."""
        return self.source.next_data(offset, end)

    def close(self) -> None:
        """See ``Source.close``."""
        self.source.close()


def look_at(sources: Sequence[Source]) -> tuple[LookedAt, ...]:
    """The same sources, to be looked at."""
    return tuple(source if isinstance(source, LookedAt) else LookedAt(source) for source in sources)


def read_around(
    read: Callable[[int, memoryview], None], offset: int, buffer: memoryview
) -> list[tuple[int, int]]:
    """Read what there is; the rest becomes zeros, which are not to be taken for memory.

    Args:
        read: As ``Source.pread_into`` or ``Reader.pread_into``.
        offset: First byte wanted.
        buffer: Filled.

    Returns:
        What is absent or cannot be read: ranges of ``buffer``, in order.
    """
    lost: list[tuple[int, int]] = []
    parts = [(0, len(buffer))]
    while parts:
        start, end = parts.pop()
        try:
            read(offset + start, buffer[start:end])
        except (FaultError, SourceIOError):
            middle = page_in_the_middle(offset + start, offset + end) - offset
            if middle < end:
                parts += ((middle, end), (start, middle))
                continue
            buffer[start:end] = bytes(end - start)
            lost.append((start, end))
    return lost


def read_up_to(
    read: Callable[[int, memoryview], None], offset: int, size: int
) -> tuple[bytes, str]:
    """The bytes before the first one that cannot be read, and why that cannot be; empty if all can.

    Args:
        read: As for ``read_around``.
        offset: First byte wanted.
        size: Bytes wanted.
    """
    buffer = bytearray(size)
    try:
        read(offset, memoryview(buffer))
    except (FaultError, SourceIOError) as error:
        lost = read_around(read, offset, memoryview(buffer))
        return bytes(buffer[: lost[0][0] if lost else size]), str(error) if lost else ""
    return bytes(buffer), ""
