"""makedumpfile's flattened format, as the dump that the stream would make.

A dump that went through a pipe or ssh is a block of 4096 bytes, then records: where bytes belong,
how many, and the bytes; numbers are big-endian. One pass over the records gives a table, and the
dump is read through it where it stands (makedumpfile.c, ``write_start_flat_header``,
``write_buffer``, ``rearrange_dumpdata``).
"""

from __future__ import annotations

import struct
from array import array
from typing import Final

import numpy as np

from vmcorefs.core.ranges import Int64Array
from vmcorefs.core.units import MAX_ADDRESS
from vmcorefs.errors import FormatError, SourceIOError
from vmcorefs.sources.dump import File
from vmcorefs.sources.file import FileSource

SIGNATURE = b"makedumpfile\0\0\0\0"

_START_SIZE = 4096
_START: Final = struct.Struct(">16sqq")
_RECORD: Final = struct.Struct(">qq")
_KNOWN = (SIGNATURE, 1, 1)
_END = (-1, -1)
_MAX_REWRITTEN = 4096


class Unflattened:
    """The dump in a flattened stream.

    Attributes:
        name: The stream's.
        origin: The stream's.
        role: The stream's.
        kind: What sort of file it is.
        size: Bytes in the dump.
        is_cut: Whether the stream has no end.
    """

    kind = "flattened dump"

    def __init__(self, file: File) -> None:
        """Go through the stream's records.

        Args:
            file: It is closed with this.

        Raises:
            FormatError: if a record cannot be true, or too many are written over.
            SourceIOError: if it cannot be read.
        """
        self.name, self.origin, self.role = file.name, file.origin, file.role
        self._file = file
        if file.size < _START_SIZE or _START.unpack(self._pread(0, _START.size)) != _KNOWN:
            raise FormatError(f"{file.name}: no flattened dump of type 1 and version 1")
        rows, self.is_cut = self._read_records()
        self._to, self._size, self._at = _in_order(file.name, rows)
        self.size = int((self._to + self._size).max(initial=0))

    @property
    def file(self) -> FileSource:
        """The file that all of this comes from."""
        return self._file.file

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``; what no record has is zeros, as in a sparse file."""
        end = offset + len(buffer)
        if offset < 0 or end > self.size:
            reason = f"the dump in it has {self.size} bytes"
            raise SourceIOError(self.name, offset, len(buffer), reason)
        row = max(int(self._to.searchsorted(offset, side="right")) - 1, 0)
        done = offset
        while done < end:
            start, size = int(self._to[row]), int(self._size[row])
            if done < start:
                done = self._fill(buffer, offset, done, min(start, end))
            elif done < start + size:
                step = min(start + size, end) - done
                piece = buffer[done - offset : done - offset + step]
                self._file.pread_into(int(self._at[row]) + done - start, piece)
                done += step
            elif row + 1 < len(self._to):
                row += 1
            else:
                done = self._fill(buffer, offset, done, end)

    def _fill(self, buffer: memoryview, offset: int, start: int, end: int) -> int:
        if self.is_cut:
            reason = "the stream was cut before that"
            raise SourceIOError(self.name, start, end - start, reason)
        buffer[start - offset : end - offset] = bytes(end - start)
        return end

    def is_hole(self, offset: int, size: int) -> bool:
        """See ``Source.is_hole``."""
        return False

    def next_data(self, offset: int, end: int) -> int:
        """See ``Source.next_data``."""
        return offset

    def close(self) -> None:
        """See ``Source.close``."""
        self._file.close()

    def _read_records(self) -> tuple[Int64Array, bool]:
        """Where each record belongs, its size, and where its bytes are; whether there is no end."""
        rows = array("q")
        at, end, is_cut = _START_SIZE, self._file.size, False
        while True:
            if at + _RECORD.size > end:
                is_cut = True
                break
            to, size = record = _RECORD.unpack(self._pread(at, _RECORD.size))
            if record == _END:
                break
            if to < 0 or size <= 0 or to + size > MAX_ADDRESS:
                raise FormatError(
                    f"{self.name}: a record of {size} bytes for {to:#x}, at offset {at:#x}"
                )
            at += _RECORD.size
            held = min(size, end - at)
            if held:
                rows.extend((to, held, at))
            at += size
        return np.frombuffer(rows, dtype=np.int64).reshape(-1, 3), is_cut

    def _pread(self, offset: int, size: int) -> bytearray:
        buffer = bytearray(size)
        self._file.pread_into(offset, memoryview(buffer))
        return buffer


def _in_order(name: str, rows: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Sort records by where they belong; of those that overlap, the later is believed."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    reach = np.maximum.accumulate(rows[:, 0] + rows[:, 1])
    apart = rows[1:, 0] >= reach[:-1]
    cluster = np.concatenate(([0], np.cumsum(apart)))[: len(rows)]
    touched = np.bincount(cluster, minlength=1)[cluster] > 1
    rewritten = rows[touched]
    if len(rewritten) > _MAX_REWRITTEN:
        raise FormatError(f"{name}: {len(rewritten)} records overlap, expected a few headers")
    kept: list[tuple[int, int, int]] = []
    for to, size, at in sorted(rewritten.tolist(), key=lambda row: row[2]):
        kept = [piece for old in kept for piece in _without(old, to, to + size)]
        kept.append((to, size, at))
    pieces = np.array(kept, dtype=np.int64).reshape(-1, 3)
    rows = np.concatenate((rows[~touched], pieces))
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].copy()


def _without(row: tuple[int, int, int], start: int, end: int) -> list[tuple[int, int, int]]:
    to, size, at = row
    pieces = [(to, min(start, to + size) - to, at)]
    low = max(end, to)
    pieces.append((low, to + size - low, at + low - to))
    return [piece for piece in pieces if piece[1] > 0]
