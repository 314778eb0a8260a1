"""makedumpfile's flattened format: a dump as a stream, its parts in any order.

It starts with a block of 4096 bytes that identifies the format. Each record that follows says where
its bytes belong; one with offset and size -1 ends the stream. All numbers are big-endian on every
machine (makedumpfile.c, ``write_start_flat_header``, ``write_buffer``; makedumpfile.h).
"""

from __future__ import annotations

import struct

import msgspec

from vmcorefs.core.formats.magics import FLATTENED
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

START_SIZE = 4096
"""Bytes before the first record."""

RECORD_SIZE = 16
"""Bytes before a record's data."""

END = struct.pack(">qq", -1, -1)
"""The last record."""

_TYPE, _VERSION = 1, 1


class Record(msgspec.Struct, frozen=True):
    """Where the bytes that follow belong in the dump, and how many there are."""

    offset: int
    size: int


def pack_start() -> bytes:
    """The first block of a stream."""
    return (FLATTENED + struct.pack(">qq", _TYPE, _VERSION)).ljust(START_SIZE, b"\0")


def check_start(data: bytes) -> None:
    """Check that a stream begins here.

    Args:
        data: Its first bytes, at least 32.

    Raises:
        FormatError: if none does, or it has another version.
    """
    if data[: len(FLATTENED)] != FLATTENED or len(data) < 32:
        raise FormatError(
            f"not a flattened dump: starts with {data[:16]!r}, expected {FLATTENED!r}"
        )
    found = struct.unpack_from(">qq", data, len(FLATTENED))
    if found != (_TYPE, _VERSION):
        raise FormatError(
            f"a flattened dump of type {found[0]} and version {found[1]}, expected"
            f" {_TYPE} and {_VERSION}"
        )


def pack_record(record: Record) -> bytes:
    """The header of a record."""
    return struct.pack(">qq", record.offset, record.size)


def parse_record(data: bytes) -> Record | None:
    """Read the header of a record; None at the end of the stream.

    Raises:
        FormatError: if it cannot be true, or ``data`` does not have ``RECORD_SIZE`` bytes.
    """
    if len(data) != RECORD_SIZE:
        raise FormatError(
            f"a flattened record's header has {len(data)} bytes: the stream is cut off"
        )
    offset, size = struct.unpack(">qq", data)
    if (offset, size) == (-1, -1):
        return None
    if offset < 0 or size <= 0 or offset + size > MAX_ADDRESS:
        raise FormatError(f"a flattened record of {size} bytes at offset {offset:#x}")
    return Record(offset, size)
