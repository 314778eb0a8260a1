"""Dumps by LKCD: a header, and behind it each page with its address, compressed or not.

Versions 1 to 10, of either byte order (libkdumpfile's src/kdumpfile/lkcd.c, crash's lkcd_*.h).
Which pages there are is told by nothing but going from one to the next.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final

import msgspec

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.formats.magics import LKCD
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError, UnsupportedError

NONE, RLE, GZIP = 0, 1, 2
"""How pages are compressed."""

_COMMON: Final = "Q4I3Q"
_RAW, _COMPRESSED, _END = 1, 2, 4
_FIRST_PAGE: Final = 1 << 16
_MCLX: Final = 0xC0000000
_UTSNAME: Final = 6 * 65
_PANIC: Final = 0x100
_MOST_PAGES: Final = 1 << 28


class Header(msgspec.Struct, frozen=True):
    """What precedes the pages.

    Attributes:
        version: Of the format.
        byte_order: Of the machine.
        page_size: Bytes in a page.
        compression: One of ``NONE``, ``RLE`` and ``GZIP``.
        first: Where the first page's header is in the file.
        machine: Its name by ``uname -m``; empty if it is not told.
    """

    version: int
    byte_order: ByteOrder
    page_size: int
    compression: int
    first: int
    machine: str


class Pages:
    """Where pages are.

    Attributes:
        paddr: The physical address of each.
        offset: Where its bytes begin in the file.
        length: Bytes that it has there.
        plain: Those that are not compressed, by number.
        why: Why the end was not reached; empty if it was.
    """

    def __init__(self) -> None:
        self.paddr, self.offset, self.length = array("q"), array("q"), array("q")
        self.plain: set[int] = set()
        self.why = ""

    def follow(self, window: Window, header: Header) -> None:
        """Go from page to page, up to the end mark or the end of the file.

        Raises:
            FormatError: if there is no page, or there are too many.
        """
        self._follow(window, header)
        if not len(self.paddr):
            raise FormatError(self.why or "no page is in it")

    def _follow(self, window: Window, header: Header) -> None:
        form = struct.Struct(f"{header.byte_order}QII")
        at = header.first
        while len(self.paddr) < _MOST_PAGES:
            raw = window.take(at, form.size)
            if len(raw) < form.size:
                self.why = f"it ends at {at:#x}, before its end mark"
                return
            address, size, flags = form.unpack(raw)
            if flags & _END:
                return
            self.why = _refuse(header, address, size, flags, at)
            at += form.size
            if not self.why and at + size > window.size:
                self.why = f"it ends within the page at {address:#x}"
            if self.why:
                return
            if flags & _RAW:
                self.plain.add(len(self.paddr))
            self.paddr.append(address)
            self.offset.append(at)
            self.length.append(size)
            at += size
        raise FormatError(f"more than {_MOST_PAGES} pages")


def _refuse(header: Header, address: int, size: int, flags: int, at: int) -> str:
    kind = flags & (_RAW | _COMPRESSED)
    most = header.page_size + (header.page_size >> 1)
    if kind not in (_RAW, _COMPRESSED) or not 0 < size <= most:
        return f"a page of {size} bytes with the flags {flags:#x} at {at:#x}"
    if kind == _RAW and size != header.page_size:
        return f"a page of {size} bytes at {at:#x}, expected {header.page_size}"
    if address % header.page_size or address + header.page_size > MAX_ADDRESS:
        return f"a page for {address:#x} at {at:#x}"
    return ""


def read_header(window: Window) -> Header:
    """Read the header.

    Raises:
        FormatError: if it cannot be true, or the file ends within it.
        UnsupportedError: if its version or compression is not known.
    """
    raw = window.take(0, 4096)
    order: ByteOrder = "<" if raw.startswith(LKCD[0]) else ">"
    common = struct.Struct(order + _COMMON)
    if len(raw) < 1024:
        raise FormatError(f"{len(raw)} bytes, cut within its header")
    _, version, _, _, page_size, _, _, _ = common.unpack_from(raw)
    version &= ~_MCLX
    if not 1 <= version <= 10 or version == 4:
        raise UnsupportedError(f"version {version}, expected 1 to 3 or 5 to 10")
    if page_size not in (4096, 8192, 16384, 65536):
        raise FormatError(f"pages of {page_size} bytes")
    first, compression, machine = _read_more(raw, order, version)
    if compression not in (NONE, RLE, GZIP):
        raise UnsupportedError(f"pages compressed in the way {compression}, expected 0 to 2")
    return Header(version, order, page_size, compression, first, machine)


def _read_more(raw: bytes, order: ByteOrder, version: int) -> tuple[int, int, str]:
    """Where the first page is, how pages are compressed, and the machine's name."""
    for uts, behind in _places(version, struct.calcsize(order + _COMMON)):
        if raw[uts : uts + _UTSNAME].split(b"\0", 1)[0] != b"Linux":
            continue
        name = raw[uts + 4 * 65 : uts + 5 * 65].split(b"\0", 1)[0].decode("ascii", "replace")
        first, compression = _FIRST_PAGE, RLE
        if version >= 5:
            (compression,) = struct.unpack_from(order + "I", raw, behind)
        if version >= 9:
            (first,) = struct.unpack_from(order + "Q", raw, behind + 12)
        return first, compression, name
    raise FormatError("its header does not name a Linux")


def _places(version: int, common: int) -> tuple[tuple[int, int], ...]:
    """Where the utsname may be, and what is behind the address of the task that follows it.

    Of machines of 32 bits, and then of 64; from version 8 on of both. All fields are packed.
    """
    if version >= 8:
        uts = common + 4 + _PANIC + 16
        return ((uts, uts + _UTSNAME + 8),)
    more = 8 if version == 1 else 0  # esp and eip
    narrow = common + more + 4 + _PANIC + 8
    wide = common + more + 4 + _PANIC + 4 + 16
    return (
        (narrow, narrow + _UTSNAME + 2 + 4),
        (wide, wide + _UTSNAME + 2 + 8),
    )


def decompress_rle(data: bytes, size: int) -> bytes:
    """Undo LKCD's run-length code: a zero and a count for so many of the byte that follows.

    A zero, zero stands for a zero itself.

    Raises:
        ValueError: if more than ``size`` bytes come out, or it ends within a run.
    """
    out, at = bytearray(), 0
    while at < len(data) and len(out) <= size:
        end = data.find(b"\0", at)
        if end < 0:
            end = len(data)
        out += data[at:end]
        run = data[end : end + 3]
        if run and len(run) < (3 if run[1:2] != b"\0" else 2):
            raise ValueError("it ends within a run")
        is_zero = run[1:2] == b"\0"
        out += b"\0" if is_zero else run[2:] * (run[1] if run else 0)
        at = end + (2 if is_zero else 3)
    if len(out) > size:
        raise ValueError(f"it would be larger than {size} bytes")
    return bytes(out)
