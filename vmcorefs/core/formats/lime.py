"""The headers of LiME's format, which AVML 1 writes too, and of AVML 2.

Each range of memory follows a header of 32 bytes, little-endian: a magic number, a version, the
first and the last physical address of the range, and 8 bytes for nothing (LiME's doc/README.md).
LiME's range follows as it was; AVML 2's is compressed (avml, src/image.rs).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from vmcorefs.core.formats.window import ReadAt
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.core.space.ranges import Int64Array, Ranges, complement, normalise, round_out
from vmcorefs.core.space.units import MAX_ADDRESS, PAGE_SIZE, format_range
from vmcorefs.errors import FormatError

BLOCK: Final = 16 << 20
"""Bytes that AVML has in a range, unless less is left; if all are zeros, it leaves the range out
(src/image.rs, ``copy_block``). So does what converts AVML 2 to LiME's format."""

_HEADER: Final = struct.Struct("<8sQQ8x")
HEADER_SIZE: Final = _HEADER.size
_MOST_RANGES: Final = 1 << 21

Next = Callable[[int, int], int]
"""From where a range begins in the file, and its size, to where the next header is."""


class Headers(msgspec.Struct, frozen=True):
    """What the headers of such a file say.

    Attributes:
        start: The first address of each range, shape ``(n,)``, int64, in the file's order.
        end: One past the last address.
        offset: Where each begins in the file, shape ``(n,)``, int64, bytes.
        lost: Why the rest of the file cannot be followed; empty if all can.
        unread: Bytes at the end of the file that are no range.
    """

    start: Int64Array
    end: Int64Array
    offset: Int64Array
    lost: str
    unread: int = 0

    @property
    def ranges(self) -> Ranges:
        """All that the headers name, a normal set."""
        return normalise(np.stack((self.start, self.end), axis=1))


def read_headers(read: ReadAt, size: int, magic: bytes, find_next: Next) -> Headers:
    """Follow the headers of a file to its end.

    Args:
        read: Reads the file.
        size: Bytes in it.
        magic: ``LIME`` or ``AVML``.
        find_next: Finds the header behind a range, or raises FormatError; at the end of the file,
            if that is cut within the range.

    Raises:
        FormatError: if the first header cannot be true, there are too many, or two ranges overlap.
    """
    rows: list[tuple[int, int, int]] = []
    at, lost, unread = 0, "", 0
    while at < size and not lost:
        raw = read(at, HEADER_SIZE)
        if not any(raw):  # written to a device, or in blocks
            unread = size - at
            break
        if len(raw) < HEADER_SIZE:
            lost = f"the file ends within the header at {at:#x}"
            break
        found, start, last = _HEADER.unpack(raw)
        if found != magic or not start <= last < MAX_ADDRESS:
            lost = f"there is no valid header at {at:#x}"
            break
        if len(rows) == _MOST_RANGES:
            raise FormatError(f"more than {_MOST_RANGES} ranges")
        at += HEADER_SIZE
        rows.append((start, last + 1, at))
        try:
            at = find_next(at, last + 1 - start)
        except FormatError as error:
            lost = str(error)
    if not rows:
        raise FormatError(lost)
    table = np.array(rows, dtype=np.int64)
    _refuse_overlap(table)
    return Headers(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy(), lost, unread)


def _refuse_overlap(table: Int64Array) -> None:
    table = table[np.argsort(table[:, 0], kind="stable")]
    again = np.flatnonzero(table[1:, 0] < table[:-1, 1])
    if len(again):
        start, end, at = table[int(again[0]) + 1].tolist()
        raise FormatError(
            f"the header at {at - HEADER_SIZE:#x} has {format_range(start, end)}, and another one"
            " has a part of that too"
        )


def stored_ranges(headers: Headers, size: int) -> Extents:
    """What a file of LiME's format with ``size`` bytes holds of its ranges."""
    order = np.argsort(headers.start, kind="stable")
    start, offset = headers.start[order], headers.offset[order]
    held = np.minimum(headers.end[order] - start, size - offset)
    some = held > 0
    count = int(some.sum())
    return Extents(
        start=start[some],
        size=held[some],
        offset=offset[some],
        source=np.zeros(count, dtype=np.int32),
        kind=np.full(count, Kind.DATA, dtype=np.int8),
    )


def is_in_blocks(headers: Headers) -> bool:
    """Whether AVML has written the ranges, or converted them: some have the size of its blocks."""
    return bool((headers.end - headers.start == BLOCK).any())


def left_out(headers: Headers) -> Ranges:
    """Where AVML has left out blocks of zeros, if there is RAM, a normal set.

    That is between the ranges, less what ``ends_of_pages`` has of a page that is not whole. Behind
    the last range the file may as well have been cut.
    """
    whole = round_out(headers.ranges, PAGE_SIZE)
    return complement(whole, int(whole[0, 0]), int(whole[-1, 1]))


def ends_of_pages(headers: Headers) -> Ranges:
    """What AVML may lack behind each range, a normal set.

    It takes the last address of /proc/iomem for the end, and so leaves out a byte of each range of
    RAM, or the page that it is in (src/iomem.rs; src/snapshot.rs, ``phys``).
    """
    end = headers.ranges[:, 1]
    behind = np.stack((end, (end + PAGE_SIZE) // PAGE_SIZE * PAGE_SIZE), axis=1)
    return normalise(behind)
