"""Where the blocks of an lz4 file are.

lz4_Frame_format.md of lz4, 1.6.3: frames, the old ("legacy") frames, and frames to be skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import msgspec

from vmcorefs.errors import UnsupportedError

_MAGIC, _OLD_MAGIC = 0x184D2204, 0x184C2102
_SKIPPABLE, _SKIPPABLE_MASK = 0x184D2A50, 0xFFFFFFF0
_STORED = 1 << 31
_OLD_SIZE = 8 << 20
_LONGEST_HEADER = 19

ReadAt = Callable[[int, int], bytes]
"""From ``(offset, size)`` to the bytes there: fewer at the end."""


class Lz4Block(msgspec.Struct, frozen=True):
    """A block.

    Attributes:
        at: Where its data is in the file.
        length: Bytes of that.
        most: Bytes that may be in it.
        is_stored: Whether it is not compressed.
    """

    at: int
    length: int
    most: int
    is_stored: bool


def iter_lz4_blocks(read: ReadAt, size: int) -> Iterator[Lz4Block]:
    """Every block, in order.

    Args:
        read: Reads the file.
        size: Bytes in it.

    Raises:
        ValueError: with the reason, if the file ends too soon, or is no lz4 file from there on.
        UnsupportedError: if its blocks need one another, or a dictionary.
    """
    at = 0
    while at < size:
        magic = _number(read, at)
        if magic & _SKIPPABLE_MASK == _SKIPPABLE:
            at += 8 + _number(read, at + 4)
        elif magic == _OLD_MAGIC:
            at = yield from _old_frame(read, at + 4, size)
        elif magic == _MAGIC:
            at = yield from _frame(read, at + 4, size)
        elif at and not any(read(at, 4096)):
            return  # padded
        else:
            raise ValueError(f"at {at:#x} it is no lz4 data any more")
    if at > size:
        raise ValueError("it is cut off")


def _frame(read: ReadAt, at: int, size: int) -> Generator[Lz4Block, None, int]:
    head = read(at, _LONGEST_HEADER - 4)
    if len(head) < 3:
        raise ValueError("it is cut off")
    flags, most = head[0], 256 << (2 * (head[1] >> 4 & 7))
    if flags >> 6 != 1 or not 64 << 10 <= most <= 4 << 20:
        raise ValueError(f"a frame's flags are {flags:#x} and {head[1]:#x}")
    if flags & 1 or not flags & 0x20:
        what = "a dictionary" if flags & 1 else "the blocks before it"
        raise UnsupportedError(f"each block of its lz4 data needs {what}: decompress it first")
    at += 3 + (8 if flags & 8 else 0)
    while length := _number(read, at):
        stored, length = bool(length & _STORED), length & ~_STORED
        if length > most:
            raise ValueError(f"a block at {at:#x} has {length} bytes, expected {most} at most")
        if at + 4 + length > size:
            raise ValueError("it is cut off")
        yield Lz4Block(at + 4, length, most, stored)
        at += 4 + length + (4 if flags & 0x10 else 0)
    return at + 4 + (4 if flags & 4 else 0)


def _old_frame(read: ReadAt, at: int, size: int) -> Generator[Lz4Block, None, int]:
    while at < size:
        length = _number(read, at)
        if length in {_OLD_MAGIC, _MAGIC} or length & _SKIPPABLE_MASK == _SKIPPABLE:
            return at
        if at + 4 + length > size:
            raise ValueError("it is cut off")
        yield Lz4Block(at + 4, length, _OLD_SIZE, is_stored=False)
        at += 4 + length
    return at


def _number(read: ReadAt, at: int) -> int:
    data = read(at, 4)
    if len(data) < 4:
        raise ValueError("it is cut off")
    return int.from_bytes(data, "little")
