"""Dumps by sadump, on one disk or on a set of disks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.formats.sadump import Disk, Dump, read_bitmap, read_cpus, read_disk, read_dump
from vmcorefs.core.space.extents import Extents, Kind, coalesce, exclude, fill, validate
from vmcorefs.core.space.ranges import Int64Array, Ranges, subtract, total_size
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import FormatError, LayoutError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.input import File


def open_sadump(files: Sequence[File]) -> PlacedMemory:
    """Read which pages are on which disk.

    Args:
        files: The disk, or all disks of a set, in any order; closed when the sources of the
            returned memory are closed.

    Raises:
        FormatError: if they do not belong together, or their headers cannot be true.
        SourceIOError: if one cannot be read.
    """
    disks = sorted(((_read_disk(file), file) for file in files), key=lambda one: one[0].number)
    first, file = disks[0]
    try:
        _check(disks)
        dump = read_dump(read_at(file), first)
        _check_all(disks, dump)
        ram = read_bitmap(read_at(file), dump.ram, dump.pages)
        dumped = read_bitmap(read_at(file), dump.dumped, dump.pages)
        held, lost = _place(dumped, _areas(disks, dump), dump.block_size)
    except (FormatError, LayoutError) as error:
        raise FormatError(f"{file.name}: {error}") from error
    # what is RAM and was not dumped was left out on purpose
    left_out = subtract(ram * dump.block_size, dumped * dump.block_size)
    return PlacedMemory(
        name=file.name,
        format="a dump by sadump",
        sources=tuple(one for _, one in disks),
        held=fill(held, left_out, Kind.EXCLUDED),
        ram=ram * dump.block_size,
        lost=_describe_loss(file, lost),
        cpus=read_cpus(read_at(file), dump),
        machine=EM_X86_64,
    )


def _read_disk(file: File) -> Disk:
    try:
        return read_disk(read_at(file))
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error


def _check(disks: Sequence[tuple[Disk, File]]) -> None:
    first, _ = disks[0]
    if len(disks) > 1 and not first.number:
        raise FormatError("a dump on a disk of its own, and not of a set")
    for one, file in disks:
        if (one.identity, one.block_size) != (first.identity, first.block_size):
            raise FormatError(f"{file.name} is of another set of disks")
    if first.number > 1:
        raise FormatError(f"disk {first.number} of a set, whose first disk is not given")


def _check_all(disks: Sequence[tuple[Disk, File]], dump: Dump) -> None:
    numbers = [one.number for one, _ in disks]
    if numbers not in ([0], list(range(1, dump.disks + 1))):
        told = ", ".join(map(str, numbers))
        raise FormatError(f"a set of {dump.disks} disks, of which {told} are given")


def _areas(disks: Sequence[tuple[Disk, File]], dump: Dump) -> Int64Array:
    """Of each disk: where its pages begin, where they end, and where the file does."""
    rows = []
    for number, (disk, file) in enumerate(disks):
        begin = disk.block_size if number else dump.data
        rows.append((begin, max(disk.used, begin), file.size))
    if rows[-1][1] > 1 << 62:
        raise FormatError(f"{rows[-1][1]} bytes of a disk are used")
    return np.array(rows, dtype=np.int64)


def _place(dumped: Ranges, areas: Int64Array, size: int) -> tuple[Extents, Ranges]:
    """Where each page is, as sources by the number of the disk, and the pages that are lost.

    All pages are one behind the other, through the areas of all disks.
    """
    count = (dumped[:, 1] - dumped[:, 0]) * size
    logical = np.cumsum(count) - count
    capacity = (areas[:, 1] - areas[:, 0]) // size * size
    starts = np.cumsum(capacity) - capacity
    pieces = []
    for disk, (begin, first) in enumerate(zip(areas[:, 0], starts, strict=True)):
        there = min(int(capacity[disk]), int(areas[disk, 2] - begin))
        low = np.maximum(logical, first)
        high = np.minimum(logical + count, first + there)
        some = low < high
        paddr = dumped[:, 0] * size + low - logical
        rows = np.stack((paddr, high - low, begin + low - first, np.full_like(low, disk)), axis=1)
        pieces.append(rows[some])
    table = np.concatenate(pieces)
    table = table[np.argsort(table[:, 0], kind="stable")]
    extents = Extents(
        start=table[:, 0].copy(),
        size=table[:, 1].copy(),
        offset=table[:, 2].copy(),
        source=table[:, 3].astype(np.int32),
        kind=np.full(len(table), Kind.DATA, dtype=np.int8),
    )
    held = coalesce(validate(extents))
    lost = subtract(dumped * size, held.ranges)
    return (exclude(held, lost) if len(lost) else held), lost


def _describe_loss(file: File, lost: Ranges) -> str:
    if not len(lost):
        return ""
    size, first = format_size(total_size(lost)), format_range(*lost[0].tolist())
    return f"{file.name}: {size} of the dumped memory are cut off, first {first}"
