"""SEEK_DATA and SEEK_HOLE in a file of the tree."""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, bisect_right
from threading import Lock

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.space.extents import Kind
from vmcorefs.reader import Reader
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.identity import Identity

_MOST_KEPT = 1 << 16
"""Most stretches of one file to remember."""
_FIRST_ROWS = 64
"""Extents that are looked at together; each time four times as many."""


class Stretch(msgspec.Struct, frozen=True):
    """A part of a file that is all data, or all hole, and reaches as far as that is so.

    Attributes:
        start: Its first byte that was asked for; there may be more in front of it.
        end: One past its last.
        is_data: Whether it is data.
    """

    start: int
    end: int
    is_data: bool


class Seeker:
    """Finds the data and the holes of one file; any number of threads may ask.

    A hole is known to read as zeros: an extent of zeros, or a hole of an input that is a regular
    file. Bytes that are an error to read count as data, so that programs that skip holes meet it.

    What was found is kept as long as no input is written to: a program that copies a file asks from
    each end of a stretch, and the file system may take long to answer for a file of many parts.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._files = {
            number: source
            for number, source in enumerate(reader.sources)
            if isinstance(source, FileSource)
        }
        # the last one is for the rows without a source, which have -1
        self._is_file = np.zeros(len(reader.sources) + 1, dtype=np.bool_)
        self._is_file[list(self._files)] = True
        self._known = _Known(self._identities(), self._files)

    def seek(self, offset: int, whence: int) -> int:
        """Find the next data or the next hole, as lseek(2) does.

        Args:
            offset: Where to start; at most the file's size.
            whence: ``os.SEEK_DATA`` or ``os.SEEK_HOLE``.

        Returns:
            The offset found, or a negative errno: ENXIO after the last data or at the end of the
            file; EINVAL for another ``whence``.
        """
        size = self._end(len(self._reader.table) - 1) if len(self._reader.table) else 0
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            return -errno.EINVAL
        if offset >= size:
            return -errno.ENXIO
        found = self._stretch_at(offset)
        if found.is_data == (whence == os.SEEK_DATA):
            return offset
        return found.end if found.end < size or whence == os.SEEK_HOLE else -errno.ENXIO

    def _stretch_at(self, offset: int) -> Stretch:
        identities = self._identities()
        known = self._known
        if known.identities != identities:
            self._known = known = _Known(identities, self._files)
        found = known.here.at(offset)
        if found is None:
            found = self._find_stretch(known, offset)
            known.here.add(found)
        return found

    def _identities(self) -> list[Identity]:
        return [source.identity_now for source in self._files.values()]

    def _find_stretch(self, known: _Known, offset: int) -> Stretch:
        """Follow the rows from ``offset`` on as long as they are of one sort."""
        table = self._reader.table
        row = self._reader.row_of(offset)
        at, is_data = offset, None
        while row < len(table):
            one, source = self._part_at(known, row, at)
            if is_data is None:
                is_data = one.is_data
            elif is_data != one.is_data:
                break
            ahead = int(table.offset[row] - table.start[row])
            at = min(self._end(row), one.end - ahead)
            if at < self._end(row):
                break
            row = self._skip(row + 1, one, source)
            at = self._end(row - 1)
        return Stretch(offset, at, bool(is_data))

    def _part_at(self, known: _Known, row: int, at: int) -> tuple[Stretch, int]:
        """What the bytes of a row are, by offset in its source; and the source, -1 if no file."""
        table = self._reader.table
        number, kind = int(table.source[row]), int(table.kind[row])
        ahead = int(table.offset[row] - table.start[row])
        if kind == Kind.DATA and number in self._files:
            return known.in_file(number, at + ahead), number
        is_data = kind == Kind.DATA or kind in self._reader.faults
        return Stretch(at + ahead, self._end(row) + ahead, is_data), -1

    def _end(self, row: int) -> int:
        # not Extents.end, which is the end of every row
        return int(self._reader.table.start[row] + self._reader.table.size[row])

    def _skip(self, row: int, one: Stretch, source: int) -> int:
        """The first row from ``row`` on that may be of another sort than ``one`` of a source."""
        count = _FIRST_ROWS
        while row < len(self._reader.table):
            alike = self._are_alike(slice(row, row + count), one, source)
            if not alike.all():
                return row + int(np.argmin(alike))
            row += len(alike)
            count *= 4
        return row

    def _are_alike(self, rows: slice, one: Stretch, source: int) -> npt.NDArray[np.bool_]:
        table = self._reader.table
        number, offset = table.source[rows], table.offset[rows]
        is_kept = table.kind[rows] == Kind.DATA
        is_fault = np.isin(table.kind[rows], list(self._reader.faults))
        inside = (offset >= one.start) & (offset + table.size[rows] <= one.end)
        in_stretch = is_kept & (number == source) & inside
        if one.is_data:
            alike = is_fault | (is_kept & ~self._is_file[number])
        else:
            alike = ~(is_fault | is_kept)
        found: npt.NDArray[np.bool_] = alike | in_stretch
        return found


class _Known:
    """What was found, and of which state of the inputs."""

    def __init__(self, identities: list[Identity], files: dict[int, FileSource]) -> None:
        self.identities = identities
        self.here = _Stretches()
        self._files = files
        self._of_files = {number: _Stretches() for number in files}

    def in_file(self, number: int, offset: int) -> Stretch:
        """The stretch of an input's file from ``offset`` on."""
        found = self._of_files[number].at(offset)
        if found is None:
            file = self._files[number]
            end = max(file.size, offset + 1)
            data = file.next_data(offset, end)
            if data > offset:
                found = Stretch(offset, data, is_data=False)
            else:
                found = Stretch(offset, max(file.next_hole(offset, end), offset + 1), is_data=True)
            self._of_files[number].add(found)
        return found


class _Stretches:
    """Stretches of a file by where they start; none overlaps the next."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._found: list[Stretch] = []
        self._lock = Lock()

    def at(self, offset: int) -> Stretch | None:
        """The one that holds ``offset``, if it is known."""
        with self._lock:
            row = bisect_right(self._starts, offset) - 1
            return self._found[row] if row >= 0 and offset < self._found[row].end else None

    def add(self, one: Stretch) -> None:
        """Add one; those that begin within it are parts of it."""
        with self._lock:
            if len(self._found) >= _MOST_KEPT:
                self._starts.clear()
                self._found.clear()
            rows = slice(bisect_left(self._starts, one.start), bisect_left(self._starts, one.end))
            self._starts[rows] = [one.start]
            self._found[rows] = [one]
