"""An ELF file that stands in for the kernel's ``vmlinux``, made from the kernel's memory.

It has a symbol table made from kallsyms, types, functions and variables made from the kernel's BTF
(Documentation/bpf/btf.rst), unwind tables and its build id: debuggers take it for the vmlinux of a
debug package. Sections whose bytes are not given only say which addresses are code and which are
data, as those of a file of debug information do (``objcopy --only-keep-debug``), and a debugger
reads the bytes from the dump. Addresses are those that the kernel was linked at, which each reader
moves by KERNELOFFSET.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from vmcorefs.core.debuginfo.elf_file import (
    PER_CPU,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_PROGBITS,
    Contents,
    Section,
    make_file,
)
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import MAX_IMAGE

# name, first and end symbol (include/asm-generic/sections.h), flags
_RANGES = (
    (PER_CPU, "__per_cpu_start", "__per_cpu_end", SHF_WRITE),
    (".text", "_stext", "_etext", SHF_EXECINSTR),
    (".rodata", "__start_rodata", "__end_rodata", 0),
    (".data", "_sdata", "_edata", SHF_WRITE),
    (".image.init", "_sinittext", "_einittext", SHF_EXECINSTR),
    (".bss", "__bss_start", "__bss_stop", SHF_WRITE),
)

_KEPT = (PER_CPU, ".text", ".rodata", ".data")

_MARK = ".init.text"
"""A section without bytes, as the kernel has freed them: drgn knows a vmlinux by it (libdrgn's
elf_file.c, drgn_elf_file_create), and only of a vmlinux it takes the image to reach from the first
segment to the last one, whatever the addresses of those in between."""


def make_vmlinux(
    symbols: SymbolTable, contents: Contents, *, machine: int, byte_order: ByteOrder
) -> bytes:
    """Build the file.

    Args:
        symbols: The kernel's own symbols, of a 64-bit kernel, at their link addresses.
        contents: What else it holds.
        machine: ``e_machine``.
        byte_order: The kernel's.

    Raises:
        UnsupportedError: if the kernel has 32 bits.
    """
    image = [contents.fill(section) for section in _lay_out_image(symbols)]
    if len(image) > 2 and image[0].name == PER_CPU:  # not the first, not the last: see _MARK
        image[:2] = image[1], image[0]
    sections = [*image, Section(_MARK, SHT_PROGBITS), *contents.sections(byte_order)]
    return make_file(symbols, sections, machine=machine, byte_order=byte_order)


def at_link_addresses(symbols: SymbolTable, offset: int) -> SymbolTable:
    """The symbols where the linker put them, data told from code.

    Args:
        symbols: The kernel's own, as KASLR moved them.
        offset: How far that was, in bytes. Per-CPU offsets and constants have not moved.
    """
    start = symbols.lookup("_text") or symbols.lookup("_stext") or 0
    moved = (symbols.addresses >= start) & (symbols.addresses - start < MAX_IMAGE)
    addresses = symbols.addresses - np.where(moved, np.uint64(offset), 0)
    return replace(symbols, addresses=addresses, types=_tell_data(symbols))


def _tell_data(symbols: SymbolTable) -> str:
    """The symbols' kinds, of which none calls data code.

    kallsyms has them from nm, for which all is code that is in an executable section, and of some
    kernels ``.data`` is one (Debian's 7.3).
    """
    kinds = np.frombuffer(symbols.types.encode("latin-1"), np.uint8)
    place = dict(zip(symbols.names, symbols.addresses.tolist(), strict=True))
    is_data = np.zeros(len(kinds), dtype=bool)
    for _, first, end, flags in _RANGES:
        if not flags & SHF_EXECINSTR and first in place and end in place:
            inside = symbols.addresses >= np.uint64(place[first])
            is_data |= inside & (symbols.addresses < np.uint64(place[end]))
    as_data = kinds.copy()
    for code, data in zip(b"tTwW", b"dDvV", strict=True):
        as_data[kinds == code] = data
    return np.where(is_data, as_data, kinds).astype(np.uint8).tobytes().decode("latin-1")


def image_sections(symbols: SymbolTable) -> Iterator[tuple[str, int, int]]:
    """Name, address and size in bytes of each section that readers want the bytes of."""
    for section in _lay_out_image(symbols):
        if section.name in _KEPT:
            yield section.name, section.addr, section.size


def _lay_out_image(symbols: SymbolTable) -> Iterator[Section]:
    """Sections for all addresses from the start of the image to its end, in order, without a gap.

    gdb looks for a symbol only where there is a section. What lies between the known pairs of
    symbols (tables of exceptions and of alternatives, ORC ...) becomes ``.image.N``.
    """
    place = dict(zip(reversed(symbols.names), reversed(symbols.addresses.tolist()), strict=True))
    known = sorted(
        (place[first], place[end], name, flags)
        for name, first, end, flags in _RANGES
        if first in place and end in place and place[first] < place[end]
    )
    image_start = place.get("_text", place.get("_stext", 0))
    image_end = place.get("_end", 0)
    if image_end:  # x86-64 has .init.scratch behind it
        near = symbols.addresses[symbols.addresses < np.uint64(image_start + MAX_IMAGE)]
        image_end = max(image_end, int(near.max()))
    done = 0
    for start, end, name, flags in [*known, (image_end, image_end, "", 0)]:
        gap = max(done, image_start)
        if gap < start <= image_end:
            yield _nobits(f".image.{gap - image_start:x}", gap, start, SHF_WRITE)
        if done <= start < end:  # some linker scripts have .init.text within .data, say
            yield _nobits(name, start, end, flags)
            done = end


def _nobits(name: str, start: int, end: int, flags: int) -> Section:
    return Section(name, SHT_NOBITS, SHF_ALLOC | flags, start, end - start, align=16)
