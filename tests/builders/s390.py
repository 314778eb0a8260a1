"""Stand-alone dumps of s390, after s390-tools' include/dump/s390_dump.h and boot/s390_ext.c."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

BLOCK = 4096
END = b"DUMP_END" + struct.pack(">Q", 7)


def header(size: int, *, extended: bool = False, entry: int = 0, arch: int = 2) -> bytes:
    raw = bytearray(0x1000)
    magic = 0xA8190173618F23FE if extended else 0xA8190173618F23FD
    struct.pack_into(">QIIII", raw, 0, magic, 5, 0x1000, 1, 4096)
    struct.pack_into(">QQQI", raw, 0x18, size, 0, size, size // 4096 & 0xFFFFFFFF)
    struct.pack_into(">Q", raw, 0x38, 7)
    struct.pack_into(">I", raw, 0x48, arch)
    struct.pack_into(">BI", raw, 0x61, bool(entry), entry)
    return bytes(raw)


def pack_s390(memory: bytes) -> bytes:
    """A plain dump of all of it."""
    return header(len(memory)) + memory + END


def pack_extended(
    size: int, segments: Sequence[tuple[int, bytes]], *, entry: int = 0, end: bytes = END
) -> bytes:
    """A dump of segments: first address and bytes of each.

    Args:
        size: Bytes of memory.
        segments: In order of address.
        entry: Bytes of an entry, each compressed for itself; 0 leaves them as they are.
        end: What is behind the last.
    """
    out = header(size, extended=True, entry=entry)
    for number, (start, data) in enumerate(segments):
        is_last = number == len(segments) - 1
        body, offsets = _pack_entries(data, entry) if entry else (data, [])
        blocks = len(body) // BLOCK if entry else 0
        head = struct.pack(">QQQI20xI", start, len(data), is_last, blocks, len(offsets))
        head += struct.pack(f">{len(offsets)}I", *offsets)
        out += head.ljust(BLOCK, b"\0") + body
    return out + end


def _pack_entries(data: bytes, entry: int) -> tuple[bytes, list[int]]:
    body, offsets = b"", []
    for at in range(0, len(data), entry):
        plain = data[at : at + entry]
        packed = zlib.compress(plain, 1)
        is_plain = len(packed) > len(plain) - BLOCK
        offsets.append(len(body) // BLOCK | (0x80000000 if is_plain else 0))
        one = plain if is_plain else packed
        body += one + bytes(-len(one) % BLOCK)
    return body, offsets
