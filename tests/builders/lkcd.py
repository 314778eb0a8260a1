"""Dumps by LKCD, after libkdumpfile's src/kdumpfile/lkcd.c."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

RAW, COMPRESSED, END = 1, 2, 4


def pack_rle(data: bytes) -> bytes:
    """A zero and a count for so many of the byte that follows; a zero, zero for a zero."""
    out, at = bytearray(), 0
    while at < len(data):
        run = 1
        while run < 255 and data[at + run : at + run + 1] == data[at : at + 1]:
            run += 1
        if run > 3:
            out += bytes((0, run, data[at]))
            at += run
        else:
            out += b"\0\0" if not data[at] else data[at : at + 1]
            at += 1
    return bytes(out)


def header(
    version: int = 9,
    compression: int = 2,
    order: str = "<",
    *,
    bits: int = 64,
    page_size: int = 4096,
    machine: bytes = b"x86_64",
    first: int = 1 << 16,
) -> bytes:
    raw = struct.pack(order + "Q4I3Q", 0xA8190173618F23ED, version, 616, 8, page_size, 0, 0, 0)
    names = (b"Linux", b"host", b"2.6.5", b"#1", machine, b"(none)")
    uts = b"".join(name.ljust(65, b"\0") for name in names)
    if version == 1:
        raw += bytes(8)
    raw += struct.pack(order + "I", 9) + b"panic".ljust(0x100, b"\0")
    if version >= 8:
        raw += bytes(16) + uts + bytes(8)
    else:
        raw += bytes(8 if bits == 32 else 20) + uts + bytes(2) + bytes(bits // 8)
    raw += struct.pack(order + "III", compression, 0, 0)
    if version >= 9:
        raw += struct.pack(order + "Q", first)
    return raw.ljust(first, b"\0")


def pack_lkcd(
    pages: Sequence[tuple[int, bytes]],
    version: int = 9,
    compression: int = 2,
    order: str = "<",
    *,
    bits: int = 64,
    end: bool = True,
    first: int = 1 << 16,
) -> bytes:
    """A dump with pages by their addresses; those that do not shrink are stored as they are."""
    out = [header(version, compression, order, bits=bits, first=first)]
    for address, page in pages:
        packed = zlib.compress(page, 1) if compression == 2 else pack_rle(page)
        plain = not compression or len(packed) >= len(page)
        data = page if plain else packed
        flags = RAW if plain else COMPRESSED
        out.append(struct.pack(order + "QII", address, len(data), flags) + data)
    if end:
        out.append(struct.pack(order + "QII", 0, 0, END))
    return b"".join(out)
