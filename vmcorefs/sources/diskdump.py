"""kdump-compressed dumps, by makedumpfile, QEMU or vmcorefs, in one file or split into several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from vmcorefs.core.elf.dump_headers import MAX_NOTES
from vmcorefs.core.elf.elf import ELFCLASS32, ELFCLASS64
from vmcorefs.core.elf.elfcorehdr import make_elfcorehdr
from vmcorefs.core.elf.machines import EM_NONE, machine_number
from vmcorefs.core.elf.notes import find_eraseinfo, find_vmcoreinfo, walk_notes
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
    KdumpHeaders,
    MainHeader,
    SubHeader,
    parse_main_header,
    parse_sub_header,
)
from vmcorefs.core.space.extents import (
    Extents,
    Kind,
    Windows,
    exclude,
    fill,
    make_extents,
    merge,
    project,
)
from vmcorefs.core.space.ranges import (
    Int64Array,
    Ranges,
    complement,
    intersect,
    make_ranges,
    normalise,
    subtract,
    total_size,
    true_runs,
)
from vmcorefs.core.space.units import MAX_ADDRESS, format_range, format_size
from vmcorefs.errors import FormatError, SourceIOError, UnsupportedError
from vmcorefs.sources.base import Source
from vmcorefs.sources.dump import DumpFile, File, NoteSegment, read_segment
from vmcorefs.sources.flattened import Unflattened
from vmcorefs.sources.page_codecs import find_decompressor
from vmcorefs.sources.pages import DumpPages
from vmcorefs.sources.unreadable import read_around, read_up_to

MAX_RUNS = 1 << 22
"""Most runs of stored pages accepted. A dump of 1 GiB at level 31 has about thirty."""

_CHUNK = 1 << 18  # bytes of a bitmap read at a time: those of 8 GiB
_DESCS, _DESCS_OF_CUT = 1 << 15, 64
_LAST = 1 << 12
_SHOWN = 4  # of parts, and of ranges


class _Part(msgspec.Struct, frozen=True):
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


def open_diskdump(files: Sequence[File]) -> DumpFile:
    """Read the headers and bitmaps of a dump.

    Args:
        files: The dump, or the parts of one that was split, in any order; closing the returned dump
            closes them.

    Raises:
        FormatError: if a file is not such a dump or is cut off within its headers, or parts do not
            belong together.
        UnsupportedError: if a library for decompressing its pages is not installed.
        SourceIOError: if a file cannot be read.
    """
    warnings: list[str] = []
    parts = sorted((_read_part(file, warnings) for file in files), key=lambda part: part.span)
    _check_parts(parts)
    first = parts[0]
    page_size = first.main.block_size
    ram = normalise(np.concatenate([array for p in parts for array in (p.ram, p.stored)]))
    if not len(ram):
        raise FormatError(f"{first.file.name}: a dump without any memory")
    if int(ram[-1, 1]) > MAX_ADDRESS // page_size:
        raise FormatError(f"{first.file.name}: pages beyond {MAX_ADDRESS:#x}")
    tables = [_table(part, number, page_size) for number, part in enumerate(parts)]
    gaps = _gaps(parts, ram)
    lost = np.concatenate([gaps, *(part.lost for part in parts)])
    missing = normalise(lost * page_size)
    held = merge(*tables)
    if len(missing):
        held = exclude(held, missing)
    excluded = subtract(ram * page_size, missing)
    warnings += _warnings(parts)
    notes, apart = _read_notes(parts, warnings)
    machine = first.main.utsname.machine.decode("ascii", "replace")
    notes_in = make_extents(make_ranges([(0, first.file.size)]), kind=Kind.DATA, source=len(parts))
    return DumpFile(
        name=first.file.name,
        format=_describe(parts),
        sources=(*(_pages(part) for part in parts), first.file),
        memory=fill(held, excluded, Kind.EXCLUDED),
        plan=make_elfcorehdr(
            ram * page_size,
            e_machine=machine_number(machine) or EM_NONE,
            byte_order=first.main.abi.byte_order,
            elf_class=ELFCLASS64 if first.main.abi.bits == 64 else ELFCLASS32,
        ),
        has_vaddrs=False,
        missing=missing,
        lost=_describe_loss(parts, gaps),
        notes=notes,
        notes_in=notes_in,
        vmcoreinfo=apart.vmcoreinfo,
        eraseinfo=apart.eraseinfo,
        headers=KdumpHeaders(first.main, first.sub),
        machine=machine,
        granule=page_size,
        warnings=tuple(warnings),
    )


def _read_part(file: File, warnings: list[str]) -> _Part:
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
        return _Part(file, main, sub, where, ram, stored, _find_lost(file, main, where, stored))
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


def _check_end(file: Source, offset: int, size: int) -> None:
    if offset + size > file.size:
        where = format_range(offset, offset + size)
        raise FormatError(f"{file.size} bytes, but its headers point to {where}")


def _read(file: Source, offset: int, size: int) -> bytes:
    _check_end(file, offset, size)
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


def _check_parts(parts: Sequence[_Part]) -> None:
    first = parts[0]
    for before, part in pairwise(parts):
        name, other = part.file.name, before.file.name
        if not (before.sub.split and part.sub.split):
            raise FormatError(
                f"{name}: not a part of a dump that was split, and neither is {other}"
            )
        if part.span[0] < before.span[1]:
            raise FormatError(f"{name}: the pages from {part.span[0]} on, which {other} has too")
        if (part.main.block_size, part.main.utsname) != (first.main.block_size, first.main.utsname):
            raise FormatError(f"{name}: a part of another dump than {other}")


def _gaps(parts: Sequence[_Part], ram: Ranges) -> Ranges:
    """Pages of RAM that are only in a part that was not given."""
    if not parts[0].sub.split:
        return ram[:0]
    return subtract(ram, make_ranges(part.span for part in parts))


def _table(part: _Part, number: int, page_size: int) -> Extents:
    size = part.stored[:, 1] - part.stored[:, 0]
    return Extents(
        part.stored[:, 0] * page_size,
        size * page_size,
        _ranks(size) * page_size,
        np.full(len(size), number, dtype=np.int32),
        np.full(len(size), Kind.DATA, dtype=np.int8),
    )


def _pages(part: _Part) -> DumpPages:
    return DumpPages(
        part.file,
        descriptors=part.where.descriptors,
        count=total_size(part.stored),
        page_size=part.main.block_size,
        byte_order=part.main.abi.byte_order,
    )


class _Apart(msgspec.Struct, frozen=True):
    """What is not among the notes, but in a place of its own that the sub header points to."""

    vmcoreinfo: bytes | None
    eraseinfo: bytes


def _read_notes(
    parts: Sequence[_Part], warnings: list[str]
) -> tuple[tuple[NoteSegment, ...], _Apart]:
    """The notes of the first part; but each has what was erased in its own pages."""
    sub, file, order = parts[0].sub, parts[0].file, parts[0].main.abi.byte_order
    try:
        _check_notes(file, sub.offset_note, sub.size_note)
        segment = read_segment(file, sub.offset_note, sub.size_note, order, warnings)
        notes = walk_notes(segment.data, order).notes
        vmcoreinfo = b""
        # version 3 has no notes; of a dump that has both, the kernel's own note counts
        if find_vmcoreinfo(notes) is None:
            vmcoreinfo = _read_apart(file, sub.offset_vmcoreinfo, sub.size_vmcoreinfo, warnings)
        told = dict.fromkeys(_read_erased(part, warnings) for part in parts)
        erased = b"".join(text for text in told if text not in find_eraseinfo(notes))
    except FormatError as error:
        raise FormatError(f"{file.name}: notes: {error}") from error
    return (segment,) if segment.data else (), _Apart(vmcoreinfo or None, erased)


def _read_erased(part: _Part, warnings: list[str]) -> bytes:
    return _read_apart(part.file, part.sub.offset_eraseinfo, part.sub.size_eraseinfo, warnings)


def _read_apart(file: Source, offset: int, size: int, warnings: list[str]) -> bytes:
    """All of these bytes, or none."""
    _check_notes(file, offset, size)
    data, why = read_up_to(file.pread_into, offset, size)
    if why:
        warnings.append(f"{size} bytes beside the notes are left out: {why}")
        return b""
    return data


def _check_notes(file: Source, offset: int, size: int) -> None:
    if size > MAX_NOTES:
        raise FormatError(f"{size} bytes, expected at most {MAX_NOTES}")
    if size:
        _check_end(file, offset, size)


def _describe(parts: Sequence[_Part]) -> str:
    level = parts[0].sub.dump_level
    split = f" in {len(parts)} parts" if len(parts) > 1 else ""
    return f"a kdump-compressed dump of level {level}{split}"


def _describe_loss(parts: Sequence[_Part], gaps: Ranges) -> str:
    """What is missing: what the parts that are there have lost, and the parts that are not there.

    Args:
        parts: Those that were given.
        gaps: Page frame numbers of RAM that none of them covers, a normal set.
    """
    page_size = parts[0].main.block_size
    told = []
    for part in parts:
        if len(part.lost):
            first = format_range(*(part.lost[0] * page_size).tolist())
            size = format_size(total_size(part.lost) * page_size)
            told.append(
                f"{part.file.name}: {size} of memory that it should have are lost, first {first}"
            )
    if len(gaps):
        names = ", ".join(part.file.name for part in parts[:_SHOWN])
        more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
        is_one = len(parts) == 1
        what = "a part of a split dump" if is_one else "parts of a split dump"
        told.append(f"{names}{more}: {what}; {_describe_gaps(parts, gaps, page_size)}")
    return "; ".join(told)


def _describe_gaps(parts: Sequence[_Part], gaps: Ranges, page_size: int) -> str:
    """The pages of the parts that are not there, whether they are RAM or not."""
    ends = [part.sub.max_mapnr_64 or part.main.max_mapnr for part in parts]
    absent = complement(normalise(make_ranges(part.span for part in parts)), 0, max(ends))
    rows = [row for row in absent if len(intersect(make_ranges([tuple(row.tolist())]), gaps))]
    shown = " and ".join(format_range(*(row * page_size).tolist()) for row in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    where = "a part that was not given" if len(rows) == 1 else "parts that were not given"
    return f"pages {shown}{more} are in {where}: give all parts"


def _warnings(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if part.main.status & Flag.INCOMPLETE:
            yield f"{part.file.name}: it is marked as incomplete"
        if part.main.status & Flag.EXCLUDED_VMEMMAP:
            yield f"{part.file.name}: part of the page array itself was left out of it"
