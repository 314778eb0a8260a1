"""QEMU's migration streams: of ``migrate``, Proxmox's snapshots and, behind a header, libvirt's."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.formats.qemu.devices import read_cpus
from vmcorefs.core.formats.qemu.latest import latest
from vmcorefs.core.formats.qemu.machine import Placed, place_blocks
from vmcorefs.core.formats.qemu.mapped import CAPABILITY, MappedBlock, read_mapped, stored_pages
from vmcorefs.core.formats.qemu.ram import Block, Pages, read_blocks
from vmcorefs.core.formats.qemu.stream import (
    Configuration,
    Cursor,
    CutError,
    read_section,
    read_start,
)
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.extents import (
    Extents,
    Kind,
    Windows,
    coalesce,
    fill,
    make_extents,
    merge,
    project,
)
from vmcorefs.core.space.ranges import Int64Array, make_ranges, subtract, total_size
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.sources.base import Source, read_at
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.dumps.placed.runs import RunsOfPages
from vmcorefs.sources.input import File


class _Ram(msgspec.Struct):
    """RAM in the address space of all blocks, as far as it was read.

    Attributes:
        blocks: The blocks.
        source: What has their bytes.
        held: Its table, of source 0.
        why: Why not all was read; empty if it was.
        cpus: The registers of the CPUs; None if they were not found.
    """

    blocks: list[Block]
    source: Source
    held: Extents
    why: str = ""
    cpus: CpuRegisters | None = None


def open_qemu(file: File, start: int = 0, what: str = "a QEMU stream") -> PlacedMemory:
    """Follow a stream up to the end of RAM.

    Args:
        file: Closed when the sources of the returned memory are closed.
        start: Where the stream begins in it.
        what: The format, for people.

    Raises:
        FormatError: if it is cut or damaged before its first page.
        UnsupportedError: if it has something before the end of RAM that is not read here.
        SourceIOError: if it cannot be read.
    """
    cursor = Cursor(Window(read_at(file), file.size), start)
    try:
        told = read_start(cursor)
        ram = _read_ram(file, cursor, told)
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: {what}, but with {error}") from error
    except CutError as error:
        raise FormatError(
            f"{file.name}: {file.size} bytes, cut within the stream's start"
        ) from error
    placed = place_blocks(told.machine, ram.blocks)
    held = _project(ram.held, placed)
    spots = make_ranges((spot.paddr, spot.paddr + spot.size) for spot in placed.spots)
    machine = f" of the machine type {told.machine}" if told.machine else ""
    return PlacedMemory(
        name=file.name,
        format=f"{what}{machine}",
        sources=(ram.source,),
        held=held,
        ram=spots,
        lost=_describe_loss(file, ram.why, subtract(spots, held.ranges)),
        cpus=ram.cpus,
        warnings=tuple(_warnings(file, placed, ram)),
    )


def _read_ram(file: File, cursor: Cursor, told: Configuration) -> _Ram:
    number, _ = read_section(cursor, None)
    if CAPABILITY in told.capabilities:
        return _read_mapped(file, cursor, told.page_size, number)
    blocks = read_blocks(cursor, told.page_size, lambda _cursor, _block: None)
    pages = Pages(blocks, told.page_size)
    why = _follow(cursor, pages, number)
    runs = latest(pages.table, told.page_size)
    source = RunsOfPages(file, runs[runs[:, 2] >= 0], told.page_size)
    cpus = None if why else read_cpus(cursor.window, cursor.at)
    return _Ram(blocks, source, _table(runs, told.page_size), why, cpus)


def _follow(cursor: Cursor, pages: Pages, number: int) -> str:
    """Read the pages of all sections of RAM; return why that was not possible."""
    is_last = False
    try:
        while True:
            pages.read_records(cursor)
            if is_last:
                return ""
            number, is_last = read_section(cursor, number)
    except CutError:
        return f"it ends at {cursor.at:#x}, before the end of RAM"
    except FormatError as error:
        return str(error)


def _table(runs: Int64Array, page_size: int) -> Extents:
    stored = runs[:, 2] >= 0
    return coalesce(
        Extents(
            start=runs[:, 0].copy(),
            size=runs[:, 1] * page_size,
            offset=np.where(stored, runs[:, 0], 0),
            source=np.where(stored, 0, -1).astype(np.int32),
            kind=np.where(stored, Kind.DATA, Kind.ZERO).astype(np.int8),
        )
    )


def _read_mapped(file: File, cursor: Cursor, page_size: int, number: int) -> _Ram:
    mapped: list[MappedBlock] = []

    def extra(cursor: Cursor, block: Block) -> None:
        found = read_mapped(cursor, block, page_size)
        if found is not None:
            mapped.append(found)

    try:
        blocks = read_blocks(cursor, page_size, extra)
        why = _follow(cursor, Pages([], page_size), number)
    except CutError:
        why = f"it ends at {file.size:#x}, before the end of RAM"
        blocks = [one.block for one in mapped]
    if not blocks:
        raise CutError
    tables = [_mapped_table(file, cursor.window, one, page_size, whole=not why) for one in mapped]
    cpus = None if why else read_cpus(cursor.window, cursor.at)
    return _Ram(blocks, file, merge(*tables), why, cpus)


def _mapped_table(
    file: File, window: Window, mapped: MappedBlock, page_size: int, *, whole: bool
) -> Extents:
    """What is in the file of a block: its bitmap, which is written last, may be missing."""
    block = mapped.block
    stored = stored_pages(window, mapped, page_size) * page_size
    held = stored.clip(0, max(file.size - mapped.pages, 0))
    held = held[held[:, 0] < held[:, 1]] + block.base
    table = make_extents(held, kind=Kind.DATA, source=0)
    table = msgspec.structs.replace(table, offset=held[:, 0] - block.base + mapped.pages)
    if not len(stored) and not whole:
        return table
    everything = make_ranges([(block.base, block.base + block.size)])
    return fill(table, subtract(everything, stored + block.base), Kind.ZERO)


def _project(held: Extents, placed: Placed) -> Extents:
    spots = sorted(placed.spots, key=lambda spot: spot.paddr)
    columns = ([getattr(spot, name) for spot in spots] for name in ("base", "size", "paddr"))
    return project(held, Windows(*(np.array(column, dtype=np.int64) for column in columns)))


def _describe_loss(file: File, why: str, missing: Int64Array) -> str:
    if not why:
        return ""
    if not len(missing):
        return f"{file.name}: {why}: pages may be older than others"
    size, first = format_size(total_size(missing)), format_range(*missing[0].tolist())
    return f"{file.name}: {why}: {size} of RAM were not read, first {first}"


def _warnings(file: File, placed: Placed, ram: _Ram) -> Iterator[str]:
    if not ram.why and ram.cpus is None:
        yield (
            f"{file.name}: the registers of the CPUs are not read: the stream does not describe"
            " them, or not as those of a machine that is known here"
        )
    for block in placed.left:
        yield (
            f"{file.name}: {block.name!a}, of {format_size(block.size)}, is left out: the stream"
            " does not say where it is in memory"
        )
