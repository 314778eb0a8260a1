"""LiME's and AVML's files, after LiME's doc/README.md and avml's src/image.rs."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import cramjam

Range = tuple[int, bytes]
"""The physical address of some bytes, and these bytes."""


def header(start: int, last: int, magic: bytes = b"EMiL", version: int = 1) -> bytes:
    return struct.pack("<4sIQQ8x", magic, version, start, last)


def pack_lime(ranges: Iterable[Range]) -> bytes:
    return b"".join(header(start, start + len(data) - 1) + data for start, data in ranges)


def pack_avml(ranges: Iterable[Range]) -> bytes:
    """AVML 2: each range compressed by the library that AVML has."""
    packed = []
    for start, data in ranges:
        stream = bytes(cramjam.snappy.compress(data))
        packed += [header(start, start + len(data) - 1, b"AVML", 2), stream]
        packed.append(struct.pack("<Q", len(stream)))
    return b"".join(packed)
