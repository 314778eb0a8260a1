"""An ELF file that stands in for a module's debug file, made from the kernel's memory.

It is relocatable, as a debug package's is: crash takes no other (symbols.c,
``calculate_load_order_v2``, finds a section by a symbol's distance from it). Readers look up where
the kernel has put each section, in ``struct module`` or on a command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from vmcorefs.core.debuginfo.elf_file import (
    DEBUG_FRAME,
    DEBUG_INFO,
    PER_CPU,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    Contents,
    Held,
    Section,
    make_file,
)
from vmcorefs.core.debuginfo.orc import find_addresses
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.module_parts import ModuleParts, Region

_OURS: Final = (".debug_", ".rela", ".symtab", ".strtab", ".shstrtab", ".note.gnu.build-id", ".BTF")


def lay_out(parts: ModuleParts, symbols: SymbolTable) -> list[Section]:
    """The sections that are still in memory and have code or symbols, by address, without bytes.

    The kernel does not keep how long they are: each reaches to the next one.

    Args:
        parts: What the module is made of.
        symbols: Its symbols.
    """
    sections = {section.name: section for section in _iter_sections(parts)}
    start, size = parts.per_cpu
    if size:
        flags = SHF_ALLOC | SHF_WRITE
        sections[PER_CPU] = Section(PER_CPU, SHT_NOBITS, flags, start, size, align=16)
    addresses = np.sort(symbols.addresses)
    kept = [
        section
        for section in sections.values()
        if section.flags & SHF_EXECINSTR
        or np.diff(addresses.searchsorted(np.array(_span(section), dtype=np.uint64)))[0]
    ]
    return sorted(kept, key=_span)


def _span(section: Section) -> tuple[int, int]:
    return section.addr, section.addr + section.size


def _iter_sections(parts: ModuleParts) -> Iterator[Section]:
    for region in parts.regions:
        end = region.start + region.size
        inside = {
            address: name
            for name, address in parts.sections
            if region.start <= address < end and name != PER_CPU and not name.startswith(_OURS)
        }
        for start, following in pairwise([*sorted(inside), end]):
            size = following - start
            yield Section(inside[start], SHT_NOBITS, _flags(region), start, size, align=16)


def _flags(region: Region) -> int:
    flags = SHF_ALLOC
    flags |= SHF_EXECINSTR if region.is_code else 0
    return flags | (SHF_WRITE if region.is_written else 0)


def code_of(sections: list[Section]) -> tuple[int, int]:
    """Where a module's code begins, and how many bytes it is, what lies between included."""
    spans = [_span(section) for section in sections if section.flags & SHF_EXECINSTR]
    if not spans:
        return 0, 0
    start = min(start for start, _ in spans)
    return start, max(end for _, end in spans) - start


def make_module(
    symbols: SymbolTable,
    sections: list[Section],
    contents: Contents,
    *,
    machine: int,
    byte_order: ByteOrder,
) -> bytes:
    """Build the file.

    Args:
        symbols: The module's symbols.
        sections: What ``lay_out`` returned.
        contents: What else the file holds.
        machine: ``e_machine``.
        byte_order: The kernel's.

    Raises:
        UnsupportedError: if the kernel has 32 bits, or another architecture than those known.
    """
    held = {}
    if contents.dwarf is not None:
        entries = contents.dwarf.entries
        held[DEBUG_INFO] = Held(entries.address_at, entries.addresses)
    if contents.debug_frame is not None:
        at = find_addresses(contents.debug_frame)
        raw = np.frombuffer(contents.debug_frame, dtype=np.uint8)
        addresses = raw[at[:, None] + np.arange(8)].copy().view("<u8").reshape(-1)
        held[DEBUG_FRAME] = Held(at, addresses)
    return make_file(
        symbols,
        [*map(contents.fill, sections), *contents.sections(byte_order)],
        machine=machine,
        byte_order=byte_order,
        held=held,
    )
