"""A table and its sources, read by position: the one way by which bytes leave vmcorefs.

Reading is one search in the table, then one read of a source for each extent that is touched,
straight into the caller's buffer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vmcorefs.core.space.extents import (
    Extents,
    Kind,
    Windows,
    make_extents,
    project,
    restrict,
    validate,
)
from vmcorefs.core.space.ranges import Int64Array, Ranges, distinct, make_ranges, normalise
from vmcorefs.errors import FaultError, SourceIOError
from vmcorefs.sources.base import Source
from vmcorefs.sources.file import FileSource

DEFAULT_FAULTS = frozenset({Kind.MISSING, Kind.EXCLUDED})
"""Kinds that are an error to read. The other kinds without data, ZERO and HOLE, read as zeros; so
does EXCLUDED in a vmcore for which a dump level was asked."""

_NO_FILE: tuple[int, int, int, FileSource | None] = (0, 0, 0, None)


class Reader:
    """Positional reads through an extent table.

    Attributes:
        name: What it reads, for messages: a file of the tree, or ``memory``.
        table: The extents. An address outside them is a fault, as MISSING is.
        sources: The sources that ``table.source`` indexes.
        faults: Kinds that are an error to read.
    """

    def __init__(
        self,
        name: str,
        table: Extents,
        sources: Sequence[Source],
        faults: frozenset[Kind] = DEFAULT_FAULTS,
    ) -> None:
        self.name = name
        self.table = validate(table)
        self.sources = sources
        self.faults = faults
        self._start = np.ascontiguousarray(table.start)
        self._last = _NO_FILE  # replaced as a whole: threads need no lock

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of ``buffer`` with the bytes from ``offset`` on.

        Args:
            offset: First byte wanted, in the table's address space.
            buffer: Writable, contiguous, format ``B``; every byte of it is written.

        Raises:
            FaultError: if it touches a kind that is a fault, or an address without an extent.
            SourceIOError: if a source cannot be read.
        """
        table = self.table
        row = self.row_of(offset)
        done, count = 0, len(buffer)
        while done < count:
            at = offset + done
            inside = at - int(table.start[row]) if row < len(table) else -1
            if inside < 0:
                raise self._unheld(row, at, count - done)
            step = min(int(table.size[row]) - inside, count - done)
            if step > 0:
                self._read_row(row, inside, buffer[done : done + step])
                done += step
            row += 1

    def pread_cached(self, offset: int, buffer: memoryview) -> bool:
        """Fill ``buffer`` if all of it is in one file's page cache; return whether it did."""
        start, end, ahead, source = self._last
        if not start <= offset <= end - len(buffer):
            self._last = start, end, ahead, source = self._file_at(offset)
        return (
            source is not None
            and offset + len(buffer) <= end
            and source.pread_cached(offset + ahead, buffer)
        )

    def places_in_file(self, runs: Ranges) -> tuple[int, Int64Array] | None:
        """Where some ranges are in the file that has all of them, for reads by its descriptor.

        Args:
            runs: A normal set of at least one range.

        Returns:
            The descriptor, and where in the file each range begins; None if they are not all in one
            extent of a file, or if ``is_zero`` may be true of a part of it.
        """
        _, last, ahead, source = self._file_at(int(runs[0, 0]))
        end = int(runs[-1, 1])
        if source is None or end > last or source.takes_turns:
            return None
        if source.next_hole(int(runs[0, 0]) + ahead, end + ahead) < end + ahead:
            return None
        return source.fileno(), runs[:, 0] + ahead

    def _file_at(self, offset: int) -> tuple[int, int, int, FileSource | None]:
        """The extent of a file that holds ``offset``: start, end, what to add for its offset."""
        row = self.row_of(offset)
        one = self.table.rows(np.arange(row, min(row + 1, len(self.table))))
        if not len(one) or one.kind[0] != Kind.DATA or not one.start[0] <= offset < one.end[0]:
            return _NO_FILE
        source = self.sources[int(one.source[0])]
        if not isinstance(source, FileSource):
            return _NO_FILE
        return int(one.start[0]), int(one.end[0]), int(one.offset[0] - one.start[0]), source

    def row_of(self, offset: int) -> int:
        """The extent that holds ``offset``, or the last one before it; 0 if there is none."""
        return max(int(self._start.searchsorted(offset, side="right")) - 1, 0)

    def sources_at(self, offset: int, size: int) -> list[Source]:
        """The sources that hold bytes of ``[offset, offset + size)``, each once."""
        first, last = self.row_of(offset), self.row_of(offset + max(size, 1) - 1)
        rows = self.table.rows(np.arange(first, last + 1)).only(Kind.DATA)
        return [self.sources[n] for n in distinct(rows.source.astype(np.int64)).tolist()]

    def address_of(self, error: SourceIOError, since: int = 0) -> int | None:
        """Where in the table's address space the byte appears that could not be read.

        Args:
            error: Raised by this reader, or by another one of the same sources.
            since: Of several places, the first from here on is meant.

        Returns:
            None if it appears nowhere.
        """
        table = self.table
        numbers = [n for n, held in enumerate(self.sources) if held is error.holder]
        inside = (table.offset <= error.position) & (error.position - table.offset < table.size)
        rows = np.flatnonzero((table.kind == Kind.DATA) & np.isin(table.source, numbers) & inside)
        if not len(rows):
            return None
        found = table.start[rows] + (error.position - table.offset[rows])
        return int(found[np.argmax(found >= since)])

    def is_zero(self, offset: int, size: int) -> bool:
        """Whether ``[offset, offset + size)`` is known to read as zeros without reading it."""
        table = self.table
        row = self.row_of(offset)
        inside = offset - int(table.start[row])
        if not 0 <= inside <= int(table.size[row]) - size:
            return False
        kind = int(table.kind[row])
        if kind == Kind.DATA:
            source = self.sources[int(table.source[row])]
            return source.is_hole(int(table.offset[row]) + inside, size)
        return kind not in self.faults

    def data_ranges(self, where: Ranges, step: int) -> Ranges:
        """What is stored in a source and not already known to be zeros, as a normal set.

        Args:
            where: The ranges to look at, a normal set.
            step: Bytes after each byte of data that are taken for data too: shorter holes may be
                missed, and a source is asked once per step.
        """
        table = restrict(self.table, where)
        found = [np.empty((0, 2), dtype=np.int64)]
        for number in distinct(table.only(Kind.DATA).source.astype(np.int64)).tolist():
            rows = table.rows((table.kind == Kind.DATA) & (table.source == number))
            start, end = int(rows.offset.min()), int((rows.offset + rows.size).max())
            stored = _stored(self.sources[number], start, end, step)
            held = make_extents(stored, kind=Kind.DATA, source=number)
            found.append(project(held, Windows(rows.offset, rows.size, rows.start)).ranges)
        return normalise(np.concatenate(found))

    def pread(self, size: int, offset: int) -> bytes:
        """Read ``size`` bytes from ``offset`` on; the errors are those of ``pread_into``."""
        buffer = bytearray(size)
        self.pread_into(offset, memoryview(buffer))
        return bytes(buffer)

    def _read_row(self, row: int, inside: int, buffer: memoryview) -> None:
        table = self.table
        kind = int(table.kind[row])
        if kind == Kind.DATA:
            source = self.sources[int(table.source[row])]
            try:
                source.pread_into(int(table.offset[row]) + inside, buffer)
            except SourceIOError as error:
                error.holder = source
                raise
        elif kind in self.faults:
            at = int(table.start[row]) + inside
            raise FaultError(self.name, at, len(buffer), Kind(kind).name.lower())
        else:
            # the buffer is reused: bytes that are not written would be those of another read
            buffer[:] = bytes(len(buffer))

    def _unheld(self, row: int, at: int, count: int) -> FaultError:
        if row < len(self.table):
            count = min(count, int(self.table.start[row]) - at)
        return FaultError(self.name, at, count, "not in the table")


def _stored(source: Source, start: int, end: int, step: int) -> Ranges:
    stored = []
    while (start := source.next_data(start, end)) < end:
        stored.append((start, min(start + step, end)))
        start += step
    return make_ranges(stored)
