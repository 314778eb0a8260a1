"""makedumpfile's flattened format, read as the dump that the stream describes.

A dump that went through a pipe or ssh has this format. One pass over its records makes a table, and
the dump is read through that in place; nothing is rearranged.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np

from vmcorefs.core.formats.flattened import RECORD_SIZE, START_SIZE, check_start, parse_record
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.errors import FormatError, SourceIOError
from vmcorefs.sources.base import WithoutHoles, check_bounds
from vmcorefs.sources.input import File, Input

_MAX_REWRITTEN = 4096


class Unflattened(WithoutHoles):
    """The dump in a flattened stream.

    Attributes:
        name: The stream's.
        origin: The stream's.
        role: The stream's.
        kind: The kind of file.
        size: Bytes in the dump.
        is_cut: Whether the stream lacks its end.
    """

    kind = "flattened dump"

    def __init__(self, file: File) -> None:
        """Read the headers of the stream's records.

        Args:
            file: Closed with this object.

        Raises:
            FormatError: if a record cannot be true, or too many overwrite others.
            SourceIOError: if it cannot be read.
        """
        self.name, self.origin, self.role = file.name, file.origin, file.role
        self._file = file
        try:
            check_start(self._pread(0, min(START_SIZE, file.size)))
            rows, self.is_cut = self._read_records()
        except FormatError as error:
            raise FormatError(f"{file.name}: {error}") from error
        self._to, self._size, self._at = _in_order(file.name, rows)
        self.size = int((self._to + self._size).max(initial=0))

    @property
    def file(self) -> Input:
        """The file that everything is read from."""
        return self._file.file

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``; bytes without a record are zeros, as in a sparse file."""
        end = offset + len(buffer)
        check_bounds(self, offset, len(buffer), "the dump in it has")
        row = max(int(self._to.searchsorted(offset, side="right")) - 1, 0)
        done = offset
        while done < end:
            start, size = int(self._to[row]), int(self._size[row])
            if done < start:
                done = self._fill(buffer, offset, done, min(start, end))
            elif done < start + size:
                step = min(start + size, end) - done
                piece = buffer[done - offset : done - offset + step]
                at = int(self._at[row]) + done - start
                try:
                    self._file.pread_into(at, piece)
                except SourceIOError as error:
                    error.position += done - at  # in the dump, not in the stream
                    raise
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

    def close(self) -> None:
        """See ``Source.close``."""
        self._file.close()

    def _read_records(self) -> tuple[Int64Array, bool]:
        """Where each record belongs, its size and position; and whether the end is missing."""
        rows = array("q")
        at, end = START_SIZE, self._file.size
        while at + RECORD_SIZE <= end:
            record = parse_record(self._pread(at, RECORD_SIZE))
            if record is None:
                return _as_table(rows), False
            at += RECORD_SIZE
            held = min(record.size, end - at)
            if held:
                rows.extend((record.offset, held, at))
            at += record.size
        return _as_table(rows), True

    def _pread(self, offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        self._file.pread_into(offset, memoryview(buffer))
        return bytes(buffer)


def _as_table(rows: array[int]) -> Int64Array:
    return np.frombuffer(rows, dtype=np.int64).reshape(-1, 3)


def _in_order(name: str, rows: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Sort records by where they belong; where they overlap, the later one counts."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    reach = np.maximum.accumulate(rows[:, 0] + rows[:, 1])
    apart = rows[1:, 0] >= reach[:-1]
    cluster = np.concatenate(([0], np.cumsum(apart)))[: len(rows)]
    touched = np.bincount(cluster, minlength=1)[cluster] > 1
    rewritten = rows[touched]
    if len(rewritten) > _MAX_REWRITTEN:
        raise FormatError(f"{name}: {len(rewritten)} records overlap, expected a few headers")
    pieces = np.array(list(_on_top(rewritten.tolist())), dtype=np.int64).reshape(-1, 3)
    rows = np.concatenate((rows[~touched], pieces))
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].copy()


def _on_top(rows: list[list[int]]) -> Iterator[tuple[int, int, int]]:
    """The pieces of rows that overlap, in order: of each byte, the row with the last position.

    Args:
        rows: Where each belongs, its size and position, in order of where they belong.
    """
    edges = sorted({edge for to, size, _ in rows for edge in (to, to + size)})
    here: list[tuple[int, int, int]] = []  # a heap: position downwards, then start and end
    added = 0
    for start, end in pairwise(edges):
        while added < len(rows) and rows[added][0] <= start:
            to, size, at = rows[added]
            heappush(here, (-at, to, to + size))
            added += 1
        while here and here[0][2] <= start:
            heappop(here)
        if here:
            at, to, _ = here[0]
            yield start, end - start, start - to - at
