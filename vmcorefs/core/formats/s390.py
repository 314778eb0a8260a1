"""Stand-alone dumps of s390: the whole memory behind a header, or its segments, deflated or not.

A plain dump has all of memory in one run. An extended one has segments, each behind a page that
says where it belongs, and memory between them was zeros. A segment is stored as it is, or in
entries of equal size, each compressed by zlib or, if that was no use, as it is (s390-tools'
include/dump/s390_dump.h, zdump/dfi_s390.c). All is big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.core.formats.magics import S390_EXTENDED
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError, UnsupportedError

HEADER_SIZE: Final = 0x1000
END: Final = b"DUMP_END"
BLOCK: Final = 4096
"""Bytes in a block of the disk: a file does not say, and those of DASDs have 4096."""

_ARCH_64: Final = 2
_SEGMENT: Final = struct.Struct(">QQQI20xI")
_UNCOMPRESSED: Final = 0x80000000
_MOST_ENTRIES: Final = 1011
_MOST_SEGMENTS: Final = 1 << 20
_LARGEST_ENTRY: Final = 1 << 24


class Header(msgspec.Struct, frozen=True):
    """What precedes the memory.

    Attributes:
        is_extended: Whether segments follow.
        size: Bytes of memory.
        entry_size: Bytes of memory in a compressed entry, but for the last of a segment.
    """

    is_extended: bool
    size: int
    entry_size: int


class Stored(msgspec.Struct, frozen=True):
    """A part of memory that is in the file.

    Attributes:
        paddr: Its first physical address.
        size: Bytes in it.
        offset: Where it begins in the file.
        length: Bytes that it has there.
        is_packed: Whether it is compressed.
    """

    paddr: int
    size: int
    offset: int
    length: int
    is_packed: bool = False


class Segments:
    """The segments of an extended dump, read one by one.

    Attributes:
        at: Where the last of them ends in the file.
        end: Where it ends in memory.
        is_whole: Whether the last segment was met.
    """

    def __init__(self, window: Window, header: Header) -> None:
        self._window, self._header = window, header
        self.at, self.end, self.is_whole = HEADER_SIZE, 0, False

    def read(self) -> Iterator[Stored]:
        """What is in the file of each, up to the last one or the end of the file.

        Raises:
            FormatError: if a segment cannot be true.
        """
        for _ in range(_MOST_SEGMENTS):
            raw = self._window.take(self.at, HEADER_SIZE)
            if len(raw) < HEADER_SIZE or self.is_whole:
                return
            start, size, stop, blocks, count = _SEGMENT.unpack_from(raw)
            if start < self.end or start + size > self._header.size or count > _MOST_ENTRIES:
                raise FormatError(f"a segment of {size} bytes at {start:#x}, at {self.at:#x}")
            self.at += HEADER_SIZE
            if blocks:
                offsets = struct.unpack_from(f">{count}I", raw, _SEGMENT.size)
                yield from self._entries(start, size, blocks, offsets)
            elif size:
                yield Stored(start, size, self.at, size)
            self.at += blocks * BLOCK or size
            self.end, self.is_whole = start + size, bool(stop)
        raise FormatError(f"more than {_MOST_SEGMENTS} segments")

    def _entries(
        self, start: int, size: int, blocks: int, offsets: tuple[int, ...]
    ) -> Iterator[Stored]:
        unit = self._header.entry_size
        places = [offset & ~_UNCOMPRESSED for offset in offsets] + [blocks]
        if not unit or len(offsets) != -(-size // unit) or sorted(places) != places:
            raise FormatError(f"the entries of the segment at {start:#x} cannot be true")
        for number, offset in enumerate(offsets):
            held = min(unit, size - number * unit)
            length = (places[number + 1] - places[number]) * BLOCK
            packed = not offset & _UNCOMPRESSED
            if length < held and not packed:
                raise FormatError(f"an entry of the segment at {start:#x} has {length} bytes")
            at = self.at + places[number] * BLOCK
            yield Stored(start + number * unit, held, at, length if packed else held, packed)


def read_header(window: Window) -> Header:
    """Read the header.

    Raises:
        FormatError: if it cannot be true.
        UnsupportedError: if it is of a machine of 31 bits, or one of several volumes.
    """
    raw = window.take(0, HEADER_SIZE)
    if len(raw) < HEADER_SIZE:
        raise FormatError(f"{len(raw)} bytes, cut within its header")
    (size,) = struct.unpack_from(">Q", raw, 0x18)
    (arch,) = struct.unpack_from(">I", raw, 0x48)
    compressed, entry_size = struct.unpack_from(">BI", raw, 0x61)
    if arch != _ARCH_64:
        raise UnsupportedError(f"of an architecture that is not read here ({arch}, expected 2)")
    if raw[0x5C]:
        raise UnsupportedError("it is one of several volumes: zgetdump puts them together")
    if not 0 < size <= MAX_ADDRESS or size % BLOCK or (compressed and entry_size % BLOCK):
        raise FormatError(f"{size} bytes of memory, in entries of {entry_size}")
    if entry_size > _LARGEST_ENTRY:
        raise FormatError(f"entries of {entry_size} bytes")
    return Header(raw.startswith(S390_EXTENDED), size, entry_size if compressed else 0)
