"""Where the frames of a zstd file are.

RFC 8878, 3.1.1 (frames) and 3.1.2 (skippable frames); the seekable format is that of
contrib/seekable_format/zstd_seekable_compression_format.md of zstd.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

MAGIC = 0xFD2FB528
_SKIPPABLE, _SKIPPABLE_MASK = 0x184D2A50, 0xFFFFFFF0
_SEEK_MAGIC = 0x8F92EAB1
_SEEK_FOOTER = struct.Struct("<IBI")
_MOST = 1 << 20
_LONGEST_HEADER = 18
_RLE, _RESERVED = 1, 3

ReadAt = Callable[[int, int], bytes]
"""From ``(offset, size)`` to the bytes there: fewer at the end."""


class Frames(msgspec.Struct, frozen=True):
    """The frames of a file.

    Attributes:
        rows: The offset of each that is not empty, and the size of what is in it; None if one of
            them does not say that, or there are too many.
        damage: Why the file ends before it should; else empty.
    """

    rows: list[tuple[int, int]] | None
    damage: str


def read_frames(read: ReadAt, size: int) -> Frames:
    """Find every frame: by the seek table at the end, or going from block to block.

    Args:
        read: Reads the file.
        size: Bytes in it.
    """
    rows = _read_seek_table(read, size)
    return Frames(rows, "") if rows is not None else _walk(read, size)


def _read_seek_table(read: ReadAt, size: int) -> list[tuple[int, int]] | None:
    if size < _SEEK_FOOTER.size:
        return None
    count, descriptor, magic = _SEEK_FOOTER.unpack(
        read(size - _SEEK_FOOTER.size, _SEEK_FOOTER.size)
    )
    if magic != _SEEK_MAGIC or count > _MOST:
        return None
    width = 12 if descriptor & 0x80 else 8
    length = count * width
    table = size - _SEEK_FOOTER.size - length
    if table < 8:
        return None
    start, skipped = struct.unpack("<II", read(table - 8, 8))
    if start != _SKIPPABLE | 0xE or skipped != length + _SEEK_FOOTER.size:
        return None
    data, rows, at = read(table, length), [], 0
    for place in range(0, length, width):
        compressed, content = struct.unpack_from("<II", data, place)
        if content:
            rows.append((at, content))
        at += compressed
    return rows if at <= table - 8 else None


def _walk(read: ReadAt, size: int) -> Frames:
    rows: list[tuple[int, int]] = []
    at, is_known = 0, True
    while at < size:
        found = _walk_frame(read, at, size)
        if found is None:
            break  # the decompressor says what it makes of that
        end, content = found
        if end > size:
            return Frames(None, "it is cut off")
        is_known = is_known and content is not None and len(rows) < _MOST
        if content and is_known:
            rows.append((at, content))
        at = end
    if at < size and any(read(at, min(size - at, 4096))):
        return Frames(None, f"at {at:#x} it is no zstd data any more")
    return Frames(rows if is_known else None, "")


def _walk_frame(read: ReadAt, at: int, size: int) -> tuple[int, int | None] | None:
    """One past a frame, which may be past the end of the file, and the size of what is in it."""
    head = read(at, _LONGEST_HEADER)
    magic = int.from_bytes(head[:4], "little")
    if magic & _SKIPPABLE_MASK == _SKIPPABLE and len(head) >= 8:
        return at + 8 + int.from_bytes(head[4:8], "little"), 0
    if magic != MAGIC:
        return None
    header = _parse_header(head)
    if header is None:
        return size + 1, None
    length, content, has_sum = header
    return _end_of_blocks(read, at + length, size) + 4 * has_sum, content


def _parse_header(head: bytes) -> tuple[int, int | None, bool] | None:
    """The size of a frame's header, of what is in it if it says so, and whether a sum follows."""
    if len(head) < 6:
        return None
    descriptor = head[4]
    is_single = bool(descriptor & 0x20)
    at = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
    width = (int(is_single), 2, 4, 8)[descriptor >> 6]
    if len(head) < at + width:
        return None
    content = int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)
    return at + width, content if width else None, bool(descriptor & 4)


def _end_of_blocks(read: ReadAt, at: int, size: int) -> int:
    """One past a frame's last block, or past the end of the file if that comes before."""
    while at + 3 <= size:
        header = int.from_bytes(read(at, 3), "little")
        kind, length = header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == _RLE else length)
        if header & 1 or kind == _RESERVED:
            return at
    return size + 1
