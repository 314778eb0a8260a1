"""Which memory an ELF dump holds: its program headers, inverted.

Each PT_LOAD of a vmcore says at which physical address its bytes were. So a dump needs no memory
map, placement or backup as a raw image does: the kernel that wrote /proc/vmcore has already applied
them (fs/proc/vmcore.c).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from vmcorefs.core.elf.dump_headers import DumpHeaders
from vmcorefs.core.elf.elf import (
    ELFCLASS32,
    ELFCLASS64,
    ET_CORE,
    PT_LOAD,
    PhdrTable,
    decode_ehdr,
    make_ehdr,
    select_phdrs,
)
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr, looks_like_elfcorehdr
from vmcorefs.core.space.columns import BoolArray
from vmcorefs.core.space.extents import Extents, Kind, fill, make_extents, validate
from vmcorefs.core.space.ranges import Int64Array, Ranges, normalise, subtract
from vmcorefs.core.space.units import MAX_ADDRESS, format_range
from vmcorefs.errors import FormatError, UnsupportedError

DUMP_ELF_INCOMPLETE = 1
"""``e_flags`` of a dump that makedumpfile could not finish (its elf_info.h)."""


_KINDS: Final = {
    1: "object file, such as a module",
    2: "program, such as vmlinux",
    3: "program or shared object",
}
"""Of e_type."""

_KERNEL_HALF: Final = {ELFCLASS32: 1 << 31, ELFCLASS64: 1 << 63}
"""Where a kernel's addresses begin at the earliest; one page of x86-64's is a process's."""


class DumpMemory(msgspec.Struct, frozen=True):
    """What a dump says about physical memory.

    Attributes:
        held: The table: DATA, by offsets in the dump's file, and EXCLUDED. RAM of ``plan`` that is
            not in it is lost because the file was cut short.
        plan: The PT_LOADs as an elfcorehdr has them: all memory, whether it was left out or not.
            PT_LOADs that were split where pages are left out are joined again.
        end: Bytes that the file must have to hold everything its PT_LOADs promise.
        has_vaddrs: Whether the PT_LOADs have virtual addresses.
    """

    held: Extents
    plan: Elfcorehdr
    end: int
    has_vaddrs: bool

    @property
    def missing(self) -> Ranges:
        """RAM that the file has lost, a normal set."""
        return subtract(self.plan.ram, self.held.ranges)


def check_core(data: bytes) -> None:
    """Check that an ELF file is a core.

    Args:
        data: Its first bytes, at least ``MAX_EHDR_SIZE``.

    Raises:
        FormatError: if it is not an ELF file.
        UnsupportedError: if it is an object file or a program.
    """
    header, _ = decode_ehdr(data)
    if header.e_type != ET_CORE:
        kind = _KINDS.get(header.e_type, f"file of e_type {header.e_type}")
        raise UnsupportedError(
            f"an ELF {kind}, expected a core ({ET_CORE}): give the memory as IMAGE; a vmlinux is"
            " for --vmlinux"
        )


def read_dump_memory(dump: DumpHeaders, *, source: int = 0) -> DumpMemory:
    """Invert the program headers of a dump.

    PT_LOADs may overlap, as the kernel's image does with the RAM that holds it. They are taken to
    show the same bytes, and the one that begins first is used.

    Args:
        dump: Its headers; ``dump.size`` is the size of its file.
        source: Index of the file.

    Raises:
        FormatError: if it is not the core of a machine, or a PT_LOAD cannot be true.
        UnsupportedError: if it tells no physical address.
    """
    if len(dump.phdrs) and looks_like_elfcorehdr(dump.phdrs):
        raise FormatError(
            "an elfcorehdr, which holds no memory: give the memory as IMAGE, and this by --map"
        )
    loads = _check_loads(dump)
    stored = loads["p_filesz"] > 0
    end = int((loads["p_offset"] + loads["p_filesz"])[stored].max(initial=0))
    loads = _place_aliases(loads, loads["p_paddr"] == dump.no_address)
    if not len(loads):
        raise FormatError("no PT_LOAD has a physical address, as those of a machine do")
    paddr, offset, filesz, memsz = (
        loads[name].astype(np.int64) for name in ("p_paddr", "p_offset", "p_filesz", "p_memsz")
    )
    held = _without_overlap(paddr, np.clip(dump.size - offset, 0, filesz), offset, source)
    excluded = normalise(np.stack((paddr + filesz, paddr + memsz), axis=1))
    vaddr = loads["p_vaddr"]
    told = (vaddr != 0) & (vaddr != loads["p_paddr"]) & (vaddr != dump.no_address)
    return DumpMemory(
        fill(held, excluded, Kind.EXCLUDED), _plan(dump, loads), end, has_vaddrs=bool(told.any())
    )


def _check_loads(dump: DumpHeaders) -> PhdrTable:
    loads = dump.loads
    loads = select_phdrs(loads, loads["p_memsz"] > 0)
    if not len(loads):
        raise FormatError("a core with no PT_LOAD, expected a machine's memory")
    if len(loads) > 1 and not loads["p_paddr"].any():
        if (loads["p_vaddr"] >= _KERNEL_HALF[dump.header.elf_class]).all():
            raise UnsupportedError(
                f"{len(loads)} PT_LOADs, all at addresses of a kernel and at p_paddr 0: a copy of"
                " /proc/kcore of Linux before 4.11, which tells no physical address"
            )
        raise FormatError(
            f"{len(loads)} PT_LOADs, all at p_paddr 0: the core of a process, not of a machine"
        )
    for name, size in (("p_paddr", "p_memsz"), ("p_offset", "p_filesz")):
        # each by itself first: a sum of hostile ones would wrap
        start = np.where(loads[name] == dump.no_address, 0, loads[name])
        limit = np.uint64(MAX_ADDRESS)
        bad = (start > limit) | (loads[size] > limit) | (start + loads[size] > limit)
        if bad.any():
            row = int(np.argmax(bad))
            raise FormatError(
                f"PT_LOAD {row}: {name} {int(loads[row][name]):#x} with {size}"
                f" {int(loads[row][size]):#x} ends beyond {MAX_ADDRESS:#x}"
            )
    bad = loads["p_filesz"] > loads["p_memsz"]
    if bad.any():
        load = loads[int(np.argmax(bad))]
        paddr, memsz = int(load["p_paddr"]), int(load["p_memsz"])
        raise FormatError(
            f"PT_LOAD of {format_range(paddr, paddr + memsz)}: p_filesz {int(load['p_filesz']):#x}"
            f" is more than p_memsz {memsz:#x}"
        )
    return loads


def _place_aliases(loads: PhdrTable, alias: BoolArray) -> PhdrTable:
    """Give each PT_LOAD without a physical address the one of the PT_LOAD whose bytes it shows.

    vmcorefs' universal layout has the kernel's image like that. One that shares no bytes with
    another is not memory of its own (a kcore's vmalloc space) and is dropped.
    """
    if not alias.any():
        return loads
    placed, named = loads[alias].copy(), loads[~alias]
    order = np.argsort(named["p_offset"], kind="stable")
    named = named[order]
    row = np.searchsorted(named["p_offset"], placed["p_offset"], side="right") - 1
    holder = named[np.maximum(row, 0)] if len(named) else placed
    inside = (row >= 0) & (placed["p_filesz"] > 0)
    inside &= placed["p_offset"] + placed["p_filesz"] <= holder["p_offset"] + holder["p_filesz"]
    placed["p_paddr"] = holder["p_paddr"] + (placed["p_offset"] - holder["p_offset"])
    placed["p_memsz"] = placed["p_filesz"]
    rows = np.concatenate((np.flatnonzero(alias)[inside], np.flatnonzero(~alias)))
    both: PhdrTable = np.concatenate((placed[inside], loads[~alias]))[np.argsort(rows)]
    return both


def _without_overlap(
    start: Int64Array, size: Int64Array, offset: Int64Array, source: int
) -> Extents:
    """The table of what the PT_LOADs hold: each starts where those before it in memory end."""
    some = size > 0
    order = np.lexsort((-size[some], start[some]))
    start, size, offset = start[some][order], size[some][order], offset[some][order]
    if not len(start):
        return make_extents(np.empty((0, 2), dtype=np.int64), kind=Kind.DATA)
    end = start + size
    reach = np.concatenate((start[:1], np.maximum.accumulate(end)[:-1]))
    skipped = np.maximum(reach - start, 0)
    shown = end > start + skipped
    count = int(shown.sum())
    return validate(
        Extents(
            (start + skipped)[shown],
            (size - skipped)[shown],
            (offset + skipped)[shown],
            np.full(count, source, dtype=np.int32),
            np.full(count, Kind.DATA, dtype=np.int8),
        )
    )


def _plan(dump: DumpHeaders, loads: PhdrTable) -> Elfcorehdr:
    """The PT_LOADs, in their order, with all of their memory."""
    before, after = loads[:-1], loads[1:]
    joins = np.ones(len(after), dtype=bool)
    for name in ("p_paddr", "p_vaddr"):
        joins &= before[name] + before["p_memsz"] == after[name]  # wraps, as addresses do
    for name in ("p_flags", "p_align"):
        joins &= before[name] == after[name]
    first = np.flatnonzero(np.concatenate(([True], ~joins)))
    joined: PhdrTable = loads[first]
    joined["p_offset"] = joined["p_paddr"]
    joined["p_filesz"] = joined["p_memsz"] = np.add.reduceat(loads["p_memsz"], first)
    joined["p_type"] = PT_LOAD
    # QEMU puts section headers first; the new layout has none
    header = dump.header
    clean = make_ehdr(
        e_machine=header.e_machine, elf_class=header.elf_class, byte_order=header.byte_order
    )
    return Elfcorehdr(clean, joined)
