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
    Flag,
)
from vmcorefs.core.formats.kdump.headers import (
    KdumpHeaders,
)
from vmcorefs.core.space.extents import (
    Kind,
    exclude,
    fill,
    make_extents,
    merge,
)
from vmcorefs.core.space.ranges import (
    Ranges,
    complement,
    intersect,
    make_ranges,
    normalise,
    subtract,
    total_size,
)
from vmcorefs.core.space.units import MAX_ADDRESS, format_range, format_size
from vmcorefs.errors import FormatError
from vmcorefs.sources.base import Source
from vmcorefs.sources.dumps.diskdump_part import MAX_RUNS, Part, check_end, read_part
from vmcorefs.sources.dumps.dump import DumpFile, NoteSegment, read_segment
from vmcorefs.sources.input import File
from vmcorefs.sources.unreadable import read_up_to


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
    parts = sorted((read_part(file, warnings) for file in files), key=lambda part: part.span)
    _check_parts(parts)
    first = parts[0]
    if sum(len(part.stored) for part in parts) > MAX_RUNS:
        raise FormatError(f"{first.file.name}: more than {MAX_RUNS} runs of pages in all parts")
    page_size = first.main.block_size
    ram = normalise(np.concatenate([array for p in parts for array in (p.ram, p.stored)]))
    if not len(ram):
        raise FormatError(f"{first.file.name}: a dump without any memory")
    if int(ram[-1, 1]) > MAX_ADDRESS // page_size:
        raise FormatError(f"{first.file.name}: pages beyond {MAX_ADDRESS:#x}")
    tables = [part.table(number) for number, part in enumerate(parts)]
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
        sources=(*(part.pages() for part in parts), first.file),
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


def _check_parts(parts: Sequence[Part]) -> None:
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


def _gaps(parts: Sequence[Part], ram: Ranges) -> Ranges:
    """Pages of RAM that are only in a part that was not given."""
    if not parts[0].sub.split:
        return ram[:0]
    return subtract(ram, make_ranges(part.span for part in parts))


_SHOWN = 4  # of parts, and of ranges


class _Apart(msgspec.Struct, frozen=True):
    """What is not among the notes, but in a place of its own that the sub header points to."""

    vmcoreinfo: bytes | None
    eraseinfo: bytes


def _read_notes(
    parts: Sequence[Part], warnings: list[str]
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


def _read_erased(part: Part, warnings: list[str]) -> bytes:
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
        check_end(file, offset, size)


def _describe(parts: Sequence[Part]) -> str:
    level = parts[0].sub.dump_level
    split = f" in {len(parts)} parts" if len(parts) > 1 else ""
    return f"a kdump-compressed dump of level {level}{split}"


def _describe_loss(parts: Sequence[Part], gaps: Ranges) -> str:
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


def _describe_gaps(parts: Sequence[Part], gaps: Ranges, page_size: int) -> str:
    """The pages of the parts that are not there, whether they are RAM or not."""
    ends = [part.sub.max_mapnr_64 or part.main.max_mapnr for part in parts]
    absent = complement(normalise(make_ranges(part.span for part in parts)), 0, max(ends))
    rows = [row for row in absent if len(intersect(make_ranges([tuple(row.tolist())]), gaps))]
    shown = " and ".join(format_range(*(row * page_size).tolist()) for row in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    where = "a part that was not given" if len(rows) == 1 else "parts that were not given"
    return f"pages {shown}{more} are in {where}: give all parts"


def _warnings(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        if part.main.status & Flag.INCOMPLETE:
            yield f"{part.file.name}: it is marked as incomplete"
        if part.main.status & Flag.EXCLUDED_VMEMMAP:
            yield f"{part.file.name}: part of the page array itself was left out of it"
