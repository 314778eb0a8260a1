"""The rules of the tools that read physical memory: libkdumpfile, volatility3, LeechCore."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmcorefs.core.consumers.objection import GIVE_VMCOREINFO, USE_UNIVERSAL, Objection
from vmcorefs.core.elf.dump_headers import DumpHeaders
from vmcorefs.core.elf.elf import ELFCLASS64, EM_386, EM_X86_64, PN_XNUM, PhdrTable
from vmcorefs.core.elf.machines import EM_NONE
from vmcorefs.core.elf.registers import REGISTER_SETS
from vmcorefs.core.space.units import format_range, format_size

LEECHCORE_HEAD = 0x2000
"""LeechCore reads this much of a file for its headers, in bytes: 145 program headers."""

LEECHCORE_MIN_FILE = 16 << 20
_LEECHCORE = "ufrisk/LeechCore:leechcore/device_file.c"
_LEECHCORE_MAP = "ufrisk/LeechCore:leechcore/memmap.c LcMemMap_AddRange"
_VOLATILITY = "volatilityfoundation/volatility3:volatility3/framework/layers"


# --- libkdumpfile --------------------------------------------------------------------------------


def _kdumpfile_needs_vmcoreinfo(dump: DumpHeaders) -> Iterator[Objection]:
    if dump.vmcoreinfo is None:
        yield Objection(
            "without VMCOREINFO it reads machine-physical addresses, and no virtual ones",
            "ptesarik/libkdumpfile:src/kdumpfile/elfdump.c",
            GIVE_VMCOREINFO,
        )


def _kdumpfile_knows_prstatus(dump: DumpHeaders) -> Iterator[Objection]:
    layout = REGISTER_SETS.get(dump.header.e_machine)
    sizes = {len(note.desc) for segment in dump.notes for note in segment if note.is_prstatus}
    if layout is not None and sizes - {layout.size}:
        yield Objection(
            f"an NT_PRSTATUS of this machine has {layout.size} bytes, not"
            f" {min(sizes - {layout.size})}",
            'ptesarik/libkdumpfile:src/kdumpfile/elfdump.c, seen: "Wrong PRSTATUS size"',
            fatal=True,
        )


# --- volatility3 ---------------------------------------------------------------------------------


def _volatility_reads_little_endian_elf64(dump: DumpHeaders) -> Iterator[Objection]:
    header = dump.header
    if not _is_little_elf64(dump):
        bits = 64 if header.elf_class == ELFCLASS64 else 32
        order = "little" if header.byte_order == "<" else "big"
        yield Objection(
            f"it reads only little-endian ELF64; this is {order}-endian ELF{bits}",
            f"{_VOLATILITY}/elf.py Elf64Layer",
            fatal=True,
        )


def _volatility_counts_e_phnum(dump: DumpHeaders) -> Iterator[Objection]:
    if dump.header.e_phnum == PN_XNUM:
        yield Objection(
            f"it knows no extended e_phnum: of {len(dump.phdrs)} program headers it reads the"
            f" first {PN_XNUM}",
            f"{_VOLATILITY}/elf.py Elf64Layer._load_segments",
        )


def _volatility_does_not_sort(dump: DumpHeaders) -> Iterator[Objection]:
    loads = _whole_loads(dump)
    if not len(loads):
        yield Objection(
            "no PT_LOAD has p_filesz equal to p_memsz",
            f"{_VOLATILITY}/elf.py Elf64Layer._load_segments",
            USE_UNIVERSAL,
            fatal=True,
        )
        return
    if _ascending(loads):
        return
    (first, _), (_, last) = _span(loads[0]), _span(loads[-1])
    yield Objection(
        f"PT_LOADs are not in order of address: it takes {format_range(first, last)} for all of"
        " memory, scans nothing else, and looks addresses up by binary search",
        f"{_VOLATILITY}/segmented.py minimum_address, _find_segment",
        USE_UNIVERSAL,
    )


def _volatility_walks_four_levels(dump: DumpHeaders) -> Iterator[Objection]:
    if dump.header.e_machine != EM_X86_64 or dump.vmcoreinfo is None:
        return
    if dump.vmcoreinfo.values.get("NUMBER(pgtable_l5_enabled)", "0") != "0":
        yield Objection(
            "it walks page tables of 4 levels, and this kernel's have 5: it finds no tasks",
            f"{_VOLATILITY}/intel.py Intel32e; volatilityfoundation/volatility3#1938; seen: no rows"
            " of linux.pslist from 2.28.2",
            "crash, drgn or gdb; or the layer in the tree: vol -p TREE/volatility3",
        )


def _volatility_walks_page_tables_of_x86(dump: DumpHeaders) -> Iterator[Objection]:
    if _is_little_elf64(dump) and dump.header.e_machine not in (EM_X86_64, EM_386, EM_NONE):
        yield Objection(
            "of Linux it walks page tables of x86 alone: it finds no tasks",
            f"{_VOLATILITY}/intel.py; volatility3/framework/automagic/linux.py LinuxIntelStacker",
        )


# --- MemProcFS, on LeechCore ---------------------------------------------------------------------


def _leechcore_wants_16_mib(dump: DumpHeaders) -> Iterator[Objection]:
    if dump.size < LEECHCORE_MIN_FILE:
        yield Objection(
            f"the file has {format_size(dump.size)}; it opens none smaller than 16 MiB",
            f"{_LEECHCORE} DeviceFile_Open",
            fatal=True,
        )


def _leechcore_reads_8_kib_of_headers(dump: DumpHeaders) -> Iterator[Objection]:
    header = dump.header
    end = header.e_phoff + len(dump.phdrs) * header.phdr_size
    if end > LEECHCORE_HEAD:
        most = (LEECHCORE_HEAD - header.ehdr_size) // header.phdr_size
        yield Objection(
            f"{len(dump.phdrs)} program headers; it reads at most {most}, those in the first"
            f" {format_size(LEECHCORE_HEAD)}",
            f"{_LEECHCORE} DeviceFile_MsCrashCoreDumpInitialize",
            # no remedy if the universal layout itself has this many
            "" if _ascending(_whole_loads(dump)) else USE_UNIVERSAL,
            fatal=True,
        )
    if header.byte_order != "<":
        yield Objection(
            "it reads only little-endian cores, and takes this for raw memory from address 0 on",
            f"{_LEECHCORE} DeviceFile_MsCrashCoreDumpInitialize",
            fatal=True,
        )


def _leechcore_wants_ascending_pages(dump: DumpHeaders) -> Iterator[Objection]:
    loads = _whole_loads(dump)
    loads = loads[loads["p_offset"] > 0]
    uneven = ((loads["p_paddr"] | loads["p_filesz"]) & np.uint64(0xFFF)) != 0
    for load in loads[uneven][:1]:
        yield Objection(
            f"it leaves out PT_LOADs that are not whole pages of 4 KiB: {int(uneven.sum())}, the"
            f" first of them {format_range(*_span(load))}",
            f"{_LEECHCORE} DeviceFile_MsCrashCoreDumpInitialize",
            USE_UNIVERSAL,
        )
    kept = loads[~uneven]
    if not len(kept) or not _ascending(kept):
        yield Objection(
            "PT_LOADs must be in order of address, and not overlap"
            if len(kept)
            else "it accepts none of the PT_LOADs",
            _LEECHCORE_MAP,
            USE_UNIVERSAL,
            fatal=True,
        )


def _memprocfs_is_for_windows(dump: DumpHeaders) -> Iterator[Objection]:
    del dump  # true of every dump
    yield Objection(
        "it shows physical memory and analyses Windows: it has nothing for Linux",
        "ufrisk/MemProcFS:README.md",
        "LeechCore and its Python package read pages all the same",
    )


# --- what they have in common --------------------------------------------------------------------


def _is_little_elf64(dump: DumpHeaders) -> bool:
    return (dump.header.elf_class, dump.header.byte_order) == (ELFCLASS64, "<")


def _whole_loads(dump: DumpHeaders) -> PhdrTable:
    """PT_LOADs with p_filesz equal to p_memsz: volatility3 and LeechCore see no others."""
    loads = dump.loads
    selected: PhdrTable = loads[(loads["p_filesz"] == loads["p_memsz"]) & (loads["p_filesz"] > 0)]
    return selected


def _ascending(loads: PhdrTable) -> bool:
    starts, ends = loads["p_paddr"], loads["p_paddr"] + loads["p_filesz"]
    wrapped = ends < starts
    return not wrapped.any() and bool((ends[:-1] <= starts[1:]).all())


def _span(load: np.void) -> tuple[int, int]:
    # Python's integers do not wrap
    start = int(load["p_paddr"])
    return start, start + int(load["p_filesz"])


LIBKDUMPFILE = (_kdumpfile_needs_vmcoreinfo, _kdumpfile_knows_prstatus)
VOLATILITY3 = (
    _volatility_reads_little_endian_elf64,
    _volatility_counts_e_phnum,
    _volatility_does_not_sort,
    _volatility_walks_four_levels,
    _volatility_walks_page_tables_of_x86,
)
MEMPROCFS = (
    _leechcore_wants_16_mib,
    _leechcore_reads_8_kib_of_headers,
    _leechcore_wants_ascending_pages,
    _memprocfs_is_for_windows,
)
