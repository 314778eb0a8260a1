"""Every page of a file, by what reading it gives."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

PAGE = 4096
STEP = 64 << 10
RIGHT = "right bytes"


@dataclass(frozen=True)
class Survey:
    """What came of a part of a file.

    Attributes:
        ranges: Start, end, and what came; one behind the other.
    """

    ranges: tuple[tuple[int, int, str], ...]

    @property
    def bad(self) -> list[tuple[int, int, str]]:
        return [row for row in self.ranges if row[2] != RIGHT]

    def __str__(self) -> str:
        if len(self.ranges) == 1:
            return self.ranges[0][2]
        bad = ", ".join(f"{what} in [{start:#x}, {end:#x})" for start, end, what in self.bad)
        return f"{RIGHT}; {bad}"


def survey(descriptor: int, right: bytes, start: int, end: int) -> Survey:
    """Read ``[start, end)``, from the file and not from the cache of its reader."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    pages = list(_iter_pages(descriptor, right, start, end))
    ranges = []
    for what, group in groupby(pages, key=lambda page: page[1]):
        rows = list(group)
        ranges.append((rows[0][0], rows[-1][0] + PAGE, what))
    return Survey(tuple(ranges))


def _iter_pages(descriptor: int, right: bytes, start: int, end: int) -> Iterator[tuple[int, str]]:
    at, step = start, STEP
    while at < end:
        try:
            found = os.pread(descriptor, min(step, end - at), at)
        except OSError as error:
            if step > PAGE:
                step = PAGE  # which of the pages it is
                continue
            yield at, errno.errorcode[error.errno or 0]
            at, step = at + PAGE, STEP
            continue
        if not found:
            yield at, "an early end of file"
            at += PAGE
            continue
        for inside in range(0, len(found), PAGE):
            piece = found[inside : inside + PAGE]
            yield at + inside, _judge(piece, right[at + inside : at + inside + len(piece)])
        at, step = at + -(-len(found) // PAGE) * PAGE, STEP


def _judge(found: bytes, right: bytes) -> str:
    if found == right:
        return RIGHT
    return "wrong bytes" if any(found) else "zeros"
