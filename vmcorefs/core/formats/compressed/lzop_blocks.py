"""Where the blocks of an lzop file are: src/p_lzo.c and src/lzop.c of lzop 1.04."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec

_MAGIC = b"\x89LZO\0\r\n\x1a\n"
_FILTER, _EXTRA = 0x800, 0x40
_ADLER_OUT, _ADLER_IN, _CRC_OUT, _CRC_IN = 0x1, 0x2, 0x100, 0x200
_WITH_LEVEL = 0x940
_MAX_BLOCK = 64 << 20

ReadAt = Callable[[int, int], bytes]
"""From ``(offset, size)`` to the bytes there: fewer at the end."""


class LzopBlock(msgspec.Struct, frozen=True):
    """A block.

    Attributes:
        at: Where its data is in the file.
        length: Bytes of that.
        size: Bytes in it; as many as ``length`` if it is not compressed.
        adler: Their Adler-32 sum, if the file has that.
    """

    at: int
    length: int
    size: int
    adler: int | None


def iter_lzop_blocks(read: ReadAt, size: int) -> Iterator[LzopBlock]:
    """Every block of the first file in it, in order.

    Raises:
        ValueError: with the reason, if the file ends too soon or contradicts itself.
    """
    at, flags = _read_header(read)
    sums_out = bool(flags & _ADLER_OUT) + bool(flags & _CRC_OUT)
    sums_in = bool(flags & _ADLER_IN) + bool(flags & _CRC_IN)
    while content := _number(read, at):
        length = _number(read, at + 4)
        if content > _MAX_BLOCK or not 0 < length <= content:
            raise ValueError(f"a block at {at:#x} has {length} bytes for {content}")
        adler = _number(read, at + 8) if flags & _ADLER_OUT else None
        data = at + 8 + 4 * (sums_out + (sums_in if length < content else 0))
        if data + length > size:
            raise ValueError("it is cut off")
        yield LzopBlock(data, length, content, adler)
        at = data + length


def _read_header(read: ReadAt) -> tuple[int, int]:
    """Where the first block is, and the flags."""
    head = read(0, 64 + 255)
    at = len(_MAGIC)
    try:
        (version,) = struct.unpack_from(">H", head, at)
        has_level = version >= _WITH_LEVEL
        at += 6 if has_level else 4
        method = head[at]
        at += 2 if has_level else 1
        (flags,) = struct.unpack_from(">I", head, at)
        at += 4 + (4 if flags & _FILTER else 0) + 4 + (8 if has_level else 4)
        at += 1 + head[at] + 4
    except (struct.error, IndexError):
        raise ValueError("it is cut off") from None
    if method not in {1, 2, 3} or flags & _FILTER:
        raise ValueError(f"its method is {method}, flags {flags:#x}: expected LZO1X")
    if flags & _EXTRA:
        at += 4 + _number(read, at) + 4
    return at, flags


def _number(read: ReadAt, at: int) -> int:
    data = read(at, 4)
    if len(data) < 4:
        raise ValueError("it is cut off")
    return int.from_bytes(data, "big")
