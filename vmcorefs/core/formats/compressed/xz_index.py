"""Where the blocks of an xz file are, by the index at the end of each of its streams.

The .xz file format, 1.2.0: 2.1.2 (stream footer), 2.2 (stream padding), 4 (index).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import msgspec

_FOOTER = struct.Struct("<II2s2s")
HEADER_SIZE = 12
_HEADER_MAGIC, _FOOTER_MAGIC = b"\xfd7zXZ\0", b"YZ"
_MOST = 1 << 20
_MAX_INDEX = 32 << 20
_PADDING, _MAX_PADDING = 4, 64 << 10

ReadAt = Callable[[int, int], bytes]
"""From ``(offset, size)`` to the bytes there; fewer if they cannot be read."""


class XzBlock(msgspec.Struct, frozen=True):
    """A block.

    Attributes:
        at: Where its header is in the file.
        length: Bytes from there up to what follows it.
        size: Bytes of what is in it.
        stream: Where its stream begins.
    """

    at: int
    length: int
    size: int
    stream: int


def read_xz_blocks(read: ReadAt, size: int) -> list[XzBlock] | None:
    """Every block that is not empty, in order; None if the file cannot be read so: it is cut short.

    Args:
        read: Reads the file.
        size: Bytes in it.
    """
    streams: list[list[XzBlock]] = []
    end, count = size, 0
    while end > 0:
        found = _read_stream(read, end)
        if found is None:
            return None
        blocks, end = found
        streams.append(blocks)
        count += len(blocks)
        if count > _MOST:
            return None
    return [block for blocks in reversed(streams) for block in blocks if block.size]


def _read_stream(read: ReadAt, end: int) -> tuple[list[XzBlock], int] | None:
    """The blocks of the last stream before ``end``, and where it begins."""
    footer = read(end - _FOOTER.size, _FOOTER.size) if end >= 2 * HEADER_SIZE else b""
    padding = 0
    while footer[-_PADDING:] == bytes(_PADDING) and padding < _MAX_PADDING:
        padding += _PADDING
        end -= _PADDING
        footer = read(end - _FOOTER.size, _FOOTER.size) if end >= 2 * HEADER_SIZE else b""
    if len(footer) < _FOOTER.size:
        return None
    crc, backward, flags, magic = _FOOTER.unpack(footer)
    length = (backward + 1) * 4
    at = end - _FOOTER.size - length
    if magic != _FOOTER_MAGIC or zlib.crc32(footer[4:10]) != crc or at < HEADER_SIZE:
        return None
    if length > _MAX_INDEX:
        return None
    records = _read_index(read(at, length))
    if records is None:
        return None
    lengths = [(unpadded + 3) // 4 * 4 for unpadded, _ in records]
    stream = at - sum(lengths) - HEADER_SIZE
    if stream < 0 or not read(stream, HEADER_SIZE).startswith(_HEADER_MAGIC + flags):
        return None
    blocks, place = [], stream + HEADER_SIZE
    for each, (_, size) in zip(lengths, records, strict=True):
        blocks.append(XzBlock(place, each, size, stream))
        place += each
    return blocks, stream


def _read_index(data: bytes) -> list[tuple[int, int]] | None:
    """The unpadded size and the size of each block; None if this is no index."""
    if len(data) < 8 or data[0] or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return None
    try:
        count, at = _read_number(data, 1)
        if count > min(_MOST, len(data) // 2):
            return None
        records = []
        for _ in range(count):
            unpadded, at = _read_number(data, at)
            size, at = _read_number(data, at)
            records.append((unpadded, size))
    except IndexError:
        return None
    return records


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, of at most nine bytes, and where it ends."""
    value = 0
    for place in range(9):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return value, at + place + 1
    raise IndexError
