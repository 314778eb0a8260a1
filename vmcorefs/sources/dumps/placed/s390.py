"""Stand-alone dumps of s390, plain and extended."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence

import numpy as np

from vmcorefs.core.elf.machines import EM_S390
from vmcorefs.core.formats.s390 import HEADER_SIZE, Header, Segments, Stored, read_header
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.extents import Extents, Kind, coalesce, fill, validate
from vmcorefs.core.space.ranges import make_ranges, subtract, total_size
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import FormatError, LayoutError, UnsupportedError
from vmcorefs.sources.base import Source, read_at
from vmcorefs.sources.dumps.page_codecs import checked
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.dumps.placed.units import StoredUnits, Units
from vmcorefs.sources.input import File

_FORMAT = "a stand-alone dump of s390"


def open_s390(file: File) -> PlacedMemory:
    """Read where memory is.

    Args:
        file: Closed when the sources of the returned memory are closed.

    Raises:
        FormatError: if its headers cannot be true.
        UnsupportedError: if it is of a kind that is not read here.
        SourceIOError: if it cannot be read.
    """
    window = Window(read_at(file), file.size)
    try:
        header = read_header(window)
        if header.is_extended:
            segments = Segments(window, header)
            stored = list(segments.read())
            end = header.size if segments.is_whole else segments.end
        else:
            stored, end = [Stored(0, header.size, HEADER_SIZE, header.size)], 0
        held = _table(stored, file.size, header.entry_size)
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: {_FORMAT}, but {error}") from error
    parts = make_ranges((one.paddr, one.paddr + one.size) for one in stored)
    # what no segment has was zeros, as far as the segments are known
    held = fill(held, subtract(make_ranges([(0, end)] if end else []), parts), Kind.ZERO)
    ram = make_ranges([(0, header.size)])
    return PlacedMemory(
        name=file.name,
        format=_FORMAT,
        sources=(file, *_units(file, stored, header)),
        held=held,
        ram=ram,
        lost=_describe_loss(file, held, header),
        machine=EM_S390,
    )


def _table(stored: Sequence[Stored], size: int, unit: int) -> Extents:
    """What the file has, of source 0, and of source 1 what is compressed."""
    rows, units = [], 0
    for one in stored:
        if one.is_packed:
            if one.offset + one.length <= size:
                rows.append((one.paddr, one.size, units * unit, 1))
            units += 1
        elif one.offset < size:
            rows.append((one.paddr, min(one.size, size - one.offset), one.offset, 0))
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4)
    table = Extents(
        start=columns[:, 0],
        size=columns[:, 1],
        offset=columns[:, 2],
        source=columns[:, 3].astype(np.int32),
        kind=np.full(len(columns), Kind.DATA, dtype=np.int8),
    )
    try:
        return coalesce(validate(table))
    except LayoutError as error:
        raise FormatError(str(error)) from error


def _units(file: File, stored: Sequence[Stored], header: Header) -> tuple[Source, ...]:
    packed = [one for one in stored if one.is_packed]
    if not packed:
        return ()
    units = Units(
        at=array("q", (one.offset for one in packed)),
        length=array("q", (one.length for one in packed)),
        size=array("q", (one.size for one in packed)),
        pitch=header.entry_size,
    )
    inflate = checked(lambda data, size: zlib.decompressobj().decompress(data, size), zlib.error)
    return (StoredUnits(file, "entries of a dump", units, inflate),)


def _describe_loss(file: File, held: Extents, header: Header) -> str:
    missing = subtract(make_ranges([(0, header.size)]), held.ranges)
    if not len(missing):
        return ""
    size, first = format_size(total_size(missing)), format_range(*missing[0].tolist())
    return f"{file.name}: {file.size} bytes: {size} of memory are cut off, first {first}"
