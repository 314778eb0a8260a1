"""SEEK_DATA and SEEK_HOLE in a file of the tree."""

from __future__ import annotations

import errno
import os

from vmcorefs.core.space.extents import Kind
from vmcorefs.reader import Reader
from vmcorefs.sources.file import FileSource


def seek(reader: Reader, offset: int, whence: int) -> int:
    """Find the next data or the next hole, as lseek(2) does.

    A hole is known to read as zeros: an extent of zeros, or a hole of an input that is a regular
    file. Bytes that are an error to read count as data, so that programs that skip holes meet it.

    Args:
        reader: The file.
        offset: Where to start; at most the file's size.
        whence: ``os.SEEK_DATA`` or ``os.SEEK_HOLE``.

    Returns:
        The offset found, or a negative errno: ENXIO after the last data or at the end of the file;
        EINVAL for another ``whence``.
    """
    table = reader.table
    size = int(table.end[-1]) if len(table) else 0
    if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
        return -errno.EINVAL
    if offset >= size:
        return -errno.ENXIO
    for row in range(reader.row_of(offset), len(table)):
        found = _seek_row(reader, row, max(offset, int(table.start[row])), whence)
        if found is not None:
            return found
    return size if whence == os.SEEK_HOLE else -errno.ENXIO


def _seek_row(reader: Reader, row: int, at: int, whence: int) -> int | None:
    table = reader.table
    kind = int(table.kind[row])
    if kind != Kind.DATA:
        is_hole = kind not in reader.faults
        return at if is_hole == (whence == os.SEEK_HOLE) else None
    source = reader.sources[int(table.source[row])]
    if not isinstance(source, FileSource):
        return at if whence == os.SEEK_DATA else None
    start, end = int(table.start[row]), int(table.end[row])
    ahead = int(table.offset[row]) - start
    find = source.next_data if whence == os.SEEK_DATA else source.next_hole
    found = find(at + ahead, end + ahead) - ahead
    return found if found < end else None
