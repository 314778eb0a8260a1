"""Kernel memory of which not all can be read: the rest of it, and where it has gaps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from vmcorefs.core.space.units import page_in_the_middle
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import VmcorefsError

_MAX_FAILURES = 1 << 12
"""Failed reads to find the gaps; what was not tried then is one."""


class Partial(msgspec.Struct, frozen=True):
    """Some memory, and what of it could not be read.

    Attributes:
        data: Its bytes; zeros stand in the gaps.
        gaps: Start and end of each gap, in order; no two overlap.
    """

    data: bytes
    gaps: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.data)

    @property
    def lost(self) -> int:
        """Bytes in the gaps."""
        return sum(end - start for start, end in self.gaps)

    def iter_gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What of ``[start, end)`` could not be read, in order."""
        row = bisect_right(self.gaps, start, key=lambda gap: gap[1])
        while row < len(self.gaps) and self.gaps[row][0] < end:
            low, high = self.gaps[row]
            yield max(low, start), min(high, end)
            row += 1

    def has(self, start: int, size: int) -> bool:
        """Whether all of these bytes could be read."""
        return not self.gaps or next(self.iter_gaps(start, start + size), None) is None


def read_partial(memory: KernelMemory, vaddr: int, size: int) -> Partial:
    """Read what there is, page by page where that matters.

    Args:
        memory: What is read.
        vaddr: Where it begins.
        size: How many bytes; the caller has bounded it.

    Raises:
        VmcorefsError: if none of it can be read, for the reason of the whole.
    """
    with suppress(VmcorefsError):
        return Partial(memory.read(vaddr, size))
    data, gaps = bytearray(size), list[tuple[int, int]]()
    parts, failures = [(0, size)], 0
    while parts:
        start, end = parts.pop()
        if failures < _MAX_FAILURES:
            try:
                data[start:end] = memory.read(vaddr + start, end - start)
                continue
            except VmcorefsError:
                failures += 1
                middle = page_in_the_middle(vaddr + start, vaddr + end) - vaddr
                if middle < end:
                    parts += ((middle, end), (start, middle))
                    continue
        if gaps and gaps[-1][1] == start:
            start = gaps.pop()[0]
        gaps.append((start, end))
    if gaps == [(0, size)]:
        return Partial(memory.read(vaddr, size))  # for its error
    return Partial(bytes(data), tuple(gaps))
