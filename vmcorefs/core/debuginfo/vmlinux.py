"""An ELF file that stands in for the kernel's ``vmlinux``, made from the kernel's memory.

It has a symbol table made from kallsyms, types, functions and variables made from the kernel's BTF
(Documentation/bpf/btf.rst), unwind tables and its build id: debuggers take it for the vmlinux of a
debug package. Sections whose bytes are not given only say which addresses are code and which are
data, as those of a file of debug information do (``objcopy --only-keep-debug``), and a debugger
reads the bytes from the dump. Addresses are those that the kernel was linked at, which each reader
moves by KERNELOFFSET.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.debuginfo.dwarf import Dwarf
from vmcorefs.core.elf.elf import (
    ELF_MAGIC,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFDATA2MSB,
    EV_CURRENT,
    MAX_EHDR_SIZE,
    PT_LOAD,
)
from vmcorefs.core.elf.notes import NT_GNU_BUILD_ID, ByteOrder, pack_note
from vmcorefs.core.structures.kallsyms import Addresses, SymbolTable
from vmcorefs.core.structures.kernel_memory import MAX_IMAGE
from vmcorefs.errors import UnsupportedError

_ET_EXEC = 2
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOTE, _SHT_NOBITS = 1, 2, 3, 7, 8
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_SHN_ABS = 0xFFF1
_STB_LOCAL, _STB_GLOBAL, _STB_WEAK = 0, 1, 2
_STT_OBJECT, _STT_FUNC, _STT_SECTION = 1, 2, 3
_PF_X, _PF_W, _PF_R = 1, 2, 4
_EHDR, _PHDR, _SHDR = "HHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ"
_SYMBOL = (
    *(("name", "u4"), ("info", "u1"), ("other", "u1")),
    *(("shndx", "u2"), ("value", "u8"), ("size", "u8")),
)
_PHDR_SIZE = struct.calcsize(f"={_PHDR}")
_SHDR_SIZE = struct.calcsize(f"={_SHDR}")

PER_CPU = ".data..percpu"
"""The section of per-CPU variables: the kernel copies it for each CPU, and frees it."""

# name, first and end symbol (include/asm-generic/sections.h), flags
_RANGES = (
    (PER_CPU, "__per_cpu_start", "__per_cpu_end", _SHF_WRITE),
    (".text", "_stext", "_etext", _SHF_EXECINSTR),
    (".rodata", "__start_rodata", "__end_rodata", 0),
    (".data", "_sdata", "_edata", _SHF_WRITE),
    (".image.init", "_sinittext", "_einittext", _SHF_EXECINSTR),
    (".bss", "__bss_start", "__bss_stop", _SHF_WRITE),
)

_KEPT = (PER_CPU, ".text", ".rodata", ".data")

_MARK = ".init.text"
"""A section without bytes, as the kernel has freed them: drgn knows a vmlinux by it (libdrgn's
elf_file.c, drgn_elf_file_create), and only of a vmlinux it takes the image to reach from the first
segment to the last one, whatever the addresses of those in between."""


class _Section(msgspec.Struct, frozen=True):
    """A section header and its content; ``size`` is its size where it has no content."""

    name: str
    sh_type: int
    flags: int = 0
    addr: int = 0
    size: int = 0
    content: bytes = b""
    link: int = 0
    info: int = 0
    align: int = 1
    entsize: int = 0


class Contents(msgspec.Struct, frozen=True):
    """What the file holds besides symbols; None where it is not known.

    Attributes:
        image: The bytes of some of the sections that ``image_sections`` lists, by name.
        btf: The kernel's BTF.
        build_id: Descriptor of the build-id note.
        debug_frame: How to unwind its stacks (``core.debuginfo.orc``).
        dwarf: Its types, functions and variables.
    """

    image: Mapping[str, bytes] = {}
    btf: bytes | None = None
    build_id: bytes | None = None
    debug_frame: bytes | None = None
    dwarf: Dwarf | None = None

    def sections(self, byte_order: ByteOrder) -> Iterator[_Section]:
        """All sections but those of the image."""
        if self.build_id is not None:
            note = pack_note(b"GNU", NT_GNU_BUILD_ID, self.build_id, byte_order)
            yield _Section(".note.gnu.build-id", _SHT_NOTE, content=note, align=4)
        if self.btf is not None:
            yield _Section(".BTF", _SHT_PROGBITS, content=self.btf, align=8)
        if self.debug_frame is not None:
            yield _Section(".debug_frame", _SHT_PROGBITS, content=self.debug_frame, align=8)
        if self.dwarf is not None:
            yield _Section(".debug_info", _SHT_PROGBITS, content=self.dwarf.info)
            yield _Section(".debug_abbrev", _SHT_PROGBITS, content=self.dwarf.abbrev)
            yield _Section(".debug_str", _SHT_PROGBITS, content=self.dwarf.strings)


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
    if symbols.word_size != 8:
        raise UnsupportedError(f"no vmlinux for a kernel of {symbols.word_size * 8} bits")
    image = [_fill(section, contents.image) for section in _lay_out_image(symbols)]
    if len(image) > 2 and image[0].name == PER_CPU:  # not the first, not the last: see _MARK
        image[:2] = image[1], image[0]
    mark = _Section(_MARK, _SHT_PROGBITS)
    sections = [_Section("", 0), *image, mark, *contents.sections(byte_order)]
    table, local_count = _make_symtab(symbols, sections, byte_order)
    strings = ("\0" + "\0".join(symbols.names) + "\0").encode("latin-1")
    symtab = _Section(".symtab", _SHT_SYMTAB, content=table, align=8, entsize=24)
    sections.append(replace(symtab, link=len(sections) + 1, info=local_count))
    sections.append(_Section(".strtab", _SHT_STRTAB, content=strings))
    return _pack(sections, machine, byte_order)


def _fill(section: _Section, image: Mapping[str, bytes]) -> _Section:
    if section.name not in image:
        return section
    return replace(section, sh_type=_SHT_PROGBITS, content=image[section.name])


def at_link_addresses(symbols: SymbolTable, offset: int) -> SymbolTable:
    """The symbols where the linker put them.

    Args:
        symbols: The kernel's own, as KASLR moved them.
        offset: How far that was, in bytes. Per-CPU offsets and constants have not moved.
    """
    start = symbols.lookup("_text") or symbols.lookup("_stext") or 0
    moved = (symbols.addresses >= start) & (symbols.addresses - start < MAX_IMAGE)
    return replace(symbols, addresses=symbols.addresses - np.where(moved, np.uint64(offset), 0))


def image_sections(symbols: SymbolTable) -> Iterator[tuple[str, int, int]]:
    """Name, address and size in bytes of each section that readers want the bytes of."""
    for section in _lay_out_image(symbols):
        if section.name in _KEPT:
            yield section.name, section.addr, section.size


def _lay_out_image(symbols: SymbolTable) -> Iterator[_Section]:
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
            yield _nobits(f".image.{gap - image_start:x}", gap, start, _SHF_WRITE)
        if done <= start < end:  # some linker scripts have .init.text within .data, say
            yield _nobits(name, start, end, flags)
            done = end


def _nobits(name: str, start: int, end: int, flags: int) -> _Section:
    return _Section(name, _SHT_NOBITS, _SHF_ALLOC | flags, start, end - start, align=16)


def _make_symtab(
    symbols: SymbolTable, sections: Sequence[_Section], byte_order: ByteOrder
) -> tuple[bytes, int]:
    """The symbol table, and the number of its local symbols, which come first (gABI)."""
    dtype = np.dtype([(f"st_{name}", byte_order + kind) for name, kind in _SYMBOL])
    # entry 0 is no symbol; a section has one without a name, which crash finds .rodata by
    places = [(number, s.addr) for number, s in enumerate(sections) if _is_in_memory(s)]
    table = np.zeros(1 + len(places) + len(symbols), dtype=dtype)
    table["st_info"][1 : 1 + len(places)] = _STB_LOCAL << 4 | _STT_SECTION
    table["st_shndx"][1 : 1 + len(places)] = [number for number, _ in places]
    table["st_value"][1 : 1 + len(places)] = [addr for _, addr in places]
    own = table[1 + len(places) :]
    lengths = np.fromiter(map(len, symbols.names), dtype=np.int64, count=len(symbols))
    info = np.array([_symbol_info(chr(code)) for code in range(256)], dtype=np.uint8)
    kinds = np.frombuffer(symbols.types.encode("latin-1"), dtype=np.uint8)
    own["st_name"] = np.concatenate(([0], np.cumsum(lengths + 1)[:-1])) + 1
    own["st_info"] = info[kinds]
    own["st_value"] = symbols.addresses
    own["st_shndx"], own["st_size"] = _place_symbols(symbols.addresses, sections)
    is_global = table["st_info"] >> 4 != _STB_LOCAL
    order = np.argsort(is_global, kind="stable")
    return table[order].tobytes(), len(table) - int(is_global.sum())


def _symbol_info(kind: str) -> int:
    bind = _STB_GLOBAL if kind.isupper() else _STB_LOCAL
    if kind in "wWvV":
        bind = _STB_WEAK
    return bind << 4 | (_STT_FUNC if kind in "tTwW" else _STT_OBJECT)


def _place_symbols(
    addresses: Addresses, sections: Sequence[_Section]
) -> tuple[npt.NDArray[np.uint16], Addresses]:
    """The section and the size of each symbol.

    A symbol reaches to the next address that has one, or to the end of its section. If several
    share an address, only the first gets that size: it is the one that the kernel prints in an
    oops (kernel/kallsyms.c, ``get_symbol_pos``), and gdb and elfutils prefer symbols with a size.
    """
    rows = sorted(
        (section.addr, section.addr + section.size, number)
        for number, section in enumerate(sections)
        if _is_in_memory(section)
    )
    image = np.array([(0, 0, _SHN_ABS), *rows], dtype=np.uint64)
    row = image[1:, 0].searchsorted(addresses, side="right")
    inside = addresses <= image[row, 1]  # _end, say: readers move no absolute symbol
    section_of = np.where(inside, image[row, 2], _SHN_ABS).astype(np.uint16)

    places, first = np.unique(addresses, return_index=True)
    following = np.append(places[1:], np.iinfo(np.uint64).max)
    sizes = np.zeros(len(addresses), dtype=np.uint64)
    sizes[first] = np.minimum(following, image[row[first], 1]) - places
    return section_of, np.where(inside, sizes, 0)


def _pack(sections: list[_Section], machine: int, byte_order: ByteOrder) -> bytes:
    """The whole file: header, contents, section headers."""
    sections.append(_Section(".shstrtab", _SHT_STRTAB))
    names, name_at = b"", []
    for section in sections:
        name_at.append(len(names))
        names += section.name.encode() + b"\0"
    sections[-1] = replace(sections[-1], content=names)

    loads = sum(map(_is_in_memory, sections))
    parts, headers, segments = [], [], []
    offset = MAX_EHDR_SIZE + loads * _PHDR_SIZE
    for section, name in zip(sections, name_at, strict=True):
        padding = -offset % section.align if section.content else 0
        offset += padding
        size = len(section.content) or section.size
        parts += [bytes(padding), section.content]
        headers.append(_pack_section(section, name, offset, size, byte_order))
        if _is_in_memory(section):
            segments.append(_pack_segment(section, offset, size, byte_order))
        offset += len(section.content)
    padding = -offset % 8
    encoding = ELFDATA2LSB if byte_order == "<" else ELFDATA2MSB
    ident = ELF_MAGIC + bytes((ELFCLASS64, encoding, EV_CURRENT)) + bytes(9)
    ehdr = struct.pack(
        byte_order + _EHDR,
        *(_ET_EXEC, machine, EV_CURRENT, 0),
        *(MAX_EHDR_SIZE, offset + padding, 0),
        *(MAX_EHDR_SIZE, _PHDR_SIZE, loads, _SHDR_SIZE, len(sections), len(sections) - 1),
    )
    return b"".join([ident, ehdr, *segments, *parts, bytes(padding), *headers])


def _is_in_memory(section: _Section) -> bool:
    """Whether the kernel had it in memory."""
    return section.flags & _SHF_ALLOC > 0


def _pack_section(
    section: _Section, name: int, offset: int, size: int, byte_order: ByteOrder
) -> bytes:
    return struct.pack(
        byte_order + _SHDR,
        *(name, section.sh_type, section.flags, section.addr),
        *(offset if section.sh_type else 0, size, section.link, section.info),
        *(section.align if section.sh_type else 0, section.entsize),
    )


def _pack_segment(section: _Section, offset: int, size: int, byte_order: ByteOrder) -> bytes:
    """A part of the image; without them drgn does not know which addresses KASLR has moved."""
    flags = _PF_R
    flags |= _PF_W if section.flags & _SHF_WRITE else 0
    flags |= _PF_X if section.flags & _SHF_EXECINSTR else 0
    return struct.pack(
        byte_order + _PHDR,
        *(PT_LOAD, flags, offset, section.addr, section.addr),
        *(len(section.content), size, 1),
    )
