"""One file of a kdump-compressed dump: its headers, its bitmaps, and the pages that it has lost."""

from __future__ import annotations

import msgspec
import numpy as np

from vmcorefs.core.formats.kdump.descriptors import (
    COMPRESSED,
    DESC_SIZE,
    Flag,
    Places,
    desc_dtype,
    places,
    unpack_bits,
)
from vmcorefs.core.formats.kdump.headers import (
    MAX_HEADER_SIZE,
    MAX_SUB_HEADER_SIZE,
    MainHeader,
    SubHeader,
    parse_main_header,
    parse_sub_header,
)
from vmcorefs.core.space.extents import Extents, Kind, Windows, make_extents, project
from vmcorefs.core.space.ranges import (
    Int64Array,
    Ranges,
    intersect,
    make_ranges,
    normalise,
    total_size,
    true_runs,
)
from vmcorefs.core.space.units import format_range
from vmcorefs.errors import FormatError, SourceIOError, UnsupportedError
from vmcorefs.sources.base import Source
from vmcorefs.sources.dumps.flattened import Unflattened
from vmcorefs.sources.dumps.page_codecs import find_decompressor
from vmcorefs.sources.dumps.pages import DumpPages
from vmcorefs.sources.input import File
from vmcorefs.sources.unreadable import read_around

MAX_RUNS = 1 << 22
"""Most runs of stored pages accepted. A dump of 1 GiB at level 31 has about thirty."""

_CHUNK = 1 << 18  # bytes of a bitmap read at a time: those of 8 GiB
_DESCS, _DESCS_OF_CUT = 1 << 15, 64
_LAST = 1 << 12


class Part(msgspec.Struct, frozen=True):
    """One file of a dump.

    Attributes:
        file: The file.
        main: Its main header.
        sub: Its sub header.
        where: Where its parts begin.
        ram: Page frame numbers of RAM, a normal set.
        stored: Page frame numbers of the pages that it stores, a normal set.
        lost: Those of the stored pages that it has lost, a normal set.
    """

    file: File
    main: MainHeader
    sub: SubHeader
    where: Places
    ram: Ranges
    stored: Ranges
    lost: Ranges

    @property
    def span(self) -> tuple[int, int]:
        """The page frame numbers that it covers."""
        return _span(self.main, self.sub)

    def table(self, number: int) -> Extents:
        """Where each stored page is in ``pages``, by physical address.

        Args:
            number: Of ``pages`` among the sources.
        """
        page_size = self.main.block_size
        size = self.stored[:, 1] - self.stored[:, 0]
        return Extents(
            self.stored[:, 0] * page_size,
            size * page_size,
            _ranks(size) * page_size,
            np.full(len(size), number, dtype=np.int32),
            np.full(len(size), Kind.DATA, dtype=np.int8),
        )

    def pages(self) -> DumpPages:
        """Its stored pages, one after another, decompressed."""
        return DumpPages(
            self.file,
            descriptors=self.where.descriptors,
            count=total_size(self.stored),
            page_size=self.main.block_size,
            byte_order=self.main.abi.byte_order,
        )


def read_part(file: File, warnings: list[str]) -> Part:
    """Read what a file says of its pages.

    Args:
        file: The file.
        warnings: Gets a line for what cannot be read and can be done without.

    Raises:
        FormatError: if it is not such a dump, or is cut off within its headers.
        UnsupportedError: if a library for decompressing its pages is not installed.
        SourceIOError: if its headers or the bitmap of its stored pages cannot be read.
    """
    try:
        main = parse_main_header(_read(file, 0, MAX_HEADER_SIZE))
        sub = parse_sub_header(main, _read(file, main.block_size, MAX_SUB_HEADER_SIZE))
        for flag in Flag(main.status & COMPRESSED):
            find_decompressor(flag)
        mapped = sub.max_mapnr_64 or main.max_mapnr
        where = _check_places(places(main, mapped), mapped, file.size)
        first, end = _span(main, sub)
        # the second bitmap says which page a descriptor is of, so nothing goes without it
        stored = _bits(file, where.stored, first, min(end, mapped))
        ram = _bits(file, where.ram, 0, mapped, warnings)
        return Part(file, main, sub, where, ram, stored, _find_lost(file, main, where, stored))
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: {error}") from error
    except SourceIOError as error:
        error.args = (f"{error}: without its headers and its bitmap no page can be found",)
        raise


def _check_places(where: Places, mapped: int, size: int) -> Places:
    if where.descriptors > size or mapped > 8 * where.bitmap_size:
        raise FormatError(
            f"bitmaps of {where.bitmap_size} bytes for {mapped} pages, up to {where.descriptors},"
            f" but the file has {size} bytes"
        )
    return where


def check_end(file: Source, offset: int, size: int) -> None:
    """Raise ``FormatError`` for bytes that the file would have to be longer for."""
    if offset + size > file.size:
        where = format_range(offset, offset + size)
        raise FormatError(f"{file.size} bytes, but its headers point to {where}")


def _read(file: Source, offset: int, size: int) -> bytes:
    check_end(file, offset, size)
    buffer = bytearray(size)
    file.pread_into(offset, memoryview(buffer))
    return bytes(buffer)


def _span(main: MainHeader, sub: SubHeader) -> tuple[int, int]:
    if sub.split:
        return sub.start_pfn_64, sub.end_pfn_64
    return 0, sub.max_mapnr_64 or main.max_mapnr


def _bits(
    file: Source, offset: int, first: int, end: int, warnings: list[str] | None = None
) -> Ranges:
    """The runs of set bits of a bitmap, as a normal set within ``[first, end)``.

    Args:
        file: What it is in.
        offset: Where it begins.
        first: First bit that is asked for.
        end: One past the last.
        warnings: Gets a line for what cannot be read, and those bits are then not set; None to have
            that be an error.

    Raises:
        FormatError: if there are more than ``MAX_RUNS``.
    """
    buffer = np.empty(_CHUNK, dtype=np.uint8)
    found: list[Int64Array] = [np.empty((0, 2), dtype=np.int64)]
    count, at, last = 0, first // 8, -(-end // 8)
    while (at := file.next_data(offset + at, offset + last) - offset) < last:
        size = min(_CHUNK, last - at)
        if warnings is None:
            file.pread_into(offset + at, buffer.data[:size])
        else:
            lost = read_around(file.pread_into, offset + at, buffer.data[:size])
            warnings += (
                f"{file.name}: cannot read its bitmap of RAM at"
                f" {format_range(offset + at + low, offset + at + high)}: of those pages only the"
                " stored ones are known to be RAM"
                for low, high in lost
            )
        found.append(true_runs(unpack_bits(buffer[:size].tobytes())) + at * 8)
        count += len(found[-1])
        if count > MAX_RUNS:
            raise FormatError(f"more than {MAX_RUNS} runs of pages")
        at += size
    return intersect(normalise(np.concatenate(found)), make_ranges([(first, end)]))


def _find_lost(file: Source, main: MainHeader, where: Places, stored: Ranges) -> Ranges:
    """Pages that a dump lacks because it was cut short or is marked incomplete."""
    count = total_size(stored)
    there = min(max(file.size - where.descriptors, 0) // DESC_SIZE, count)
    dtype = desc_dtype(main.abi.byte_order)
    # pages are written in order: if the last ones are there, so are the others
    whole = there == count and not main.status & Flag.INCOMPLETE and not _is_cut(file)
    first = max(count - _LAST, 0) if whole else 0
    lost = _lost_descriptors(file, where, first, there, dtype)
    if whole and len(lost):
        lost = _lost_descriptors(file, where, 0, there, dtype)
    ranks = normalise(np.concatenate((lost, np.array([[there, count]], dtype=np.int64))))
    size = stored[:, 1] - stored[:, 0]
    return project(
        make_extents(ranks, kind=Kind.MISSING), Windows(_ranks(size), size, stored[:, 0])
    ).ranges


def _lost_descriptors(
    file: Source, where: Places, first: int, end: int, dtype: np.dtype[np.void]
) -> Ranges:
    """The descriptors in ``[first, end)`` whose pages are not in the file."""
    found: list[Ranges] = [np.empty((0, 2), dtype=np.int64)]
    step = _DESCS_OF_CUT if _is_cut(file) else _DESCS
    for start in range(first, end, step):
        raw = bytearray((min(start + step, end) - start) * DESC_SIZE)
        try:
            file.pread_into(where.descriptors + start * DESC_SIZE, memoryview(raw))
        except SourceIOError:
            if _is_cut(file):
                raw[:] = bytes(len(raw))  # a descriptor of zeros is that of a lost page
            else:
                _fill_unreadable(file, where.descriptors + start * DESC_SIZE, raw, dtype)
        descs = np.frombuffer(raw, dtype=dtype)
        room = file.size - descs["size"].astype(np.int64)
        found.append(true_runs((descs["offset"] == 0) | (descs["offset"] > room)) + start)
    return normalise(np.concatenate(found))


def _fill_unreadable(file: Source, offset: int, raw: bytearray, dtype: np.dtype[np.void]) -> None:
    """Read descriptors; those that cannot be read are no sign that the dump was cut short."""
    for low, high in read_around(file.pread_into, offset, memoryview(raw)):
        first, end = low // DESC_SIZE * DESC_SIZE, -(-high // DESC_SIZE) * DESC_SIZE
        unknown = np.zeros((end - first) // DESC_SIZE, dtype=dtype)
        unknown["offset"] = 1  # in the file
        raw[first:end] = unknown.tobytes()


def _is_cut(file: Source) -> bool:
    return isinstance(file, Unflattened) and file.is_cut


def _ranks(size: Int64Array) -> Int64Array:
    """How many pages are stored before each run."""
    return np.cumsum(size) - size
