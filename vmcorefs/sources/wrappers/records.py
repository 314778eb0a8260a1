"""An index of a wrapped file: where it can be entered, and the records that this takes.

A record may be bytes of the image: the 32 KiB before a place in a gzip file, or a compressed block
of a file that cannot be entered anywhere. So it is sealed: encrypted with a key that is made of the
wrapped file's own bytes. Whoever has the index alone has a table of offsets and noise.

Layout: magic; the records; the table, five little endian int64 a row; a footer in MessagePack; and
its sum, its size and the magic again.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import struct
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.space.units import format_size
from vmcorefs.sources.base import Source

MAGIC: Final = b"vmcrfix1"
_TAIL: Final = struct.Struct("<32sQ8s")
_SAMPLES, _SAMPLE = 16, 64 << 10
_MAX_FOOTER = 1 << 20
COLUMNS: Final = 5
KEPT_FREE = 1 << 30
"""Bytes of a file system that are left to others."""

_STEP = 64 << 20
_ROW = np.dtype("<i8")


class Footer(msgspec.Struct, frozen=True):
    """What an index says of the whole file.

    Attributes:
        size: Bytes in what is wrapped.
        table: Where the table is in the index, in bytes.
        rows: How many rows it has.
        digest: SHA-256 of the table.
        damage: Why the file could not be read to its end; empty if it could.
    """

    size: int
    table: int
    rows: int
    digest: bytes
    damage: str = ""


class Index:
    """A finished index.

    Attributes:
        size: Bytes in what is wrapped.
        starts: Offset in it of each place where it can be entered; ascending, the first is 0.
        at: The offset in the wrapper of each.
        bits: A number that the codec keeps for each.
        damage: As in ``Footer``.
    """

    def __init__(self, descriptor: int, secret: bytes, footer: Footer, table: Int64Array) -> None:
        self.size, self.damage = footer.size, footer.damage
        self.starts, self.at, self.bits, self._place, self._length = (
            np.ascontiguousarray(table[:, column]) for column in range(COLUMNS)
        )
        self._descriptor, self._secret = descriptor, secret

    def row_of(self, offset: int) -> int:
        """The last place at or before an offset."""
        return max(int(self.starts.searchsorted(offset, side="right")) - 1, 0)

    def record(self, row: int) -> bytes:
        """The record of a place.

        Raises:
            ValueError: if the index has been damaged since it was opened.
        """
        place, size = int(self._place[row]), int(self._length[row])
        data = os.pread(self._descriptor, size, place)
        if len(data) != size:
            raise ValueError("its index was cut short; it is made again when the image is opened")
        return seal(self._secret, place, data)

    def close(self) -> None:
        """Close its file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def plain_index(rows: Sequence[tuple[int, int, int]], size: int, damage: str = "") -> Index:
    """An index without records, which is not worth keeping.

    Args:
        rows: The start, the offset in the wrapper and the codec's number of each place.
        size: Bytes in what is wrapped.
        damage: As in ``Footer``.
    """
    table = np.zeros((len(rows), COLUMNS), dtype=np.int64)
    table[:, :3] = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Index(-1, b"", Footer(size, 0, len(rows), b"", damage), table)


class IndexWriter:
    """An index as it is made."""

    def __init__(self, descriptor: int, secret: bytes) -> None:
        """Begin.

        Args:
            descriptor: An empty file.
            secret: What ``secret_of`` has made of the wrapped file.
        """
        self._descriptor, self._secret = descriptor, secret
        self._rows: list[tuple[int, int, int, int, int]] = []
        self.end = _write(descriptor, MAGIC)
        self._checked = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, start: int, at: int, bits: int = 0, record: bytes = b"") -> None:
        """Add a place; the arguments are as in ``Index``."""
        if self.end >= self._checked:
            self._check_room()
        if record:
            _write(self._descriptor, seal(self._secret, self.end, record))
        self._rows.append((start, at, bits, self.end, len(record)))
        self.end += len(record)

    def _check_room(self) -> None:
        status = os.fstatvfs(self._descriptor)
        free = status.f_bavail * status.f_frsize
        if free < KEPT_FREE:
            raise OSError(
                errno.ENOSPC,
                f"{format_size(free)} of its file system are free, and {format_size(KEPT_FREE)} are"
                " to stay so; XDG_CACHE_HOME names another place",
            )
        self._checked = self.end + _STEP

    def thin_out(self) -> None:
        """Forget every second place: the first stays."""
        self._rows = self._rows[::2]

    def finish(self, size: int, damage: str = "") -> Index:
        """Write the rest, and return the index."""
        table = np.array(self._rows, dtype=_ROW).reshape(-1, COLUMNS)
        data = table.tobytes()
        digest = hashlib.sha256(data).digest()
        footer = Footer(size, self.end, len(table), digest, damage)
        packed = msgspec.msgpack.encode(footer)
        tail = _TAIL.pack(_sum(self._secret, packed), len(packed), MAGIC)
        _write(self._descriptor, data + packed + tail)
        return Index(self._descriptor, self._secret, footer, table)


def read_index(descriptor: int, secret: bytes) -> Index | None:
    """Read a finished index; None if it is damaged, or another file's."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _TAIL.size, max(size - _TAIL.size, 0))
    if len(tail) < _TAIL.size:
        return None
    expected, length, magic = _TAIL.unpack(tail)
    if magic != MAGIC or length > min(_MAX_FOOTER, size):
        return None
    packed = os.pread(descriptor, length, max(size - _TAIL.size - length, 0))
    if not hmac.compare_digest(_sum(secret, packed), expected):
        return None
    footer = msgspec.msgpack.decode(packed, type=Footer)
    data = os.pread(descriptor, footer.rows * COLUMNS * _ROW.itemsize, footer.table)
    if hashlib.sha256(data).digest() != footer.digest:
        return None
    return Index(descriptor, secret, footer, np.frombuffer(data, dtype=_ROW).reshape(-1, COLUMNS))


def secret_of(file: Source, what: str) -> bytes:
    """The key of a wrapped file's index: a digest of bytes from all over it.

    Args:
        file: The wrapped file, at least a byte long.
        what: What else is to be the same.

    Raises:
        SourceIOError: if they cannot be read.
    """
    digest = hashlib.sha256(f"{what}\0{file.size}\0".encode())
    size = min(_SAMPLE, file.size)
    buffer = bytearray(size)
    for number in range(_SAMPLES):
        file.pread_into((file.size - size) * number // (_SAMPLES - 1), memoryview(buffer))
        digest.update(buffer)
    return digest.digest()


def seal(secret: bytes, place: int, data: bytes) -> bytes:
    """Encrypt or decrypt a record: SHAKE-256 of the key and its place, as a stream.

    No two records may have the same key and the same place.
    """
    noise = hashlib.shake_256(secret + place.to_bytes(8, "little")).digest(len(data))
    mixed = np.frombuffer(data, dtype=np.uint8) ^ np.frombuffer(noise, dtype=np.uint8)
    return mixed.tobytes()


def _sum(secret: bytes, packed: bytes) -> bytes:
    return hmac.new(secret, packed, "sha256").digest()


def _write(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)
