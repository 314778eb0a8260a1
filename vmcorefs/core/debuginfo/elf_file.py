"""ELF files of debug information: sections, symbols and relocations (gABI, chapter 4).

An executable has its addresses in its section headers, and a segment for each section that was in
memory. A relocatable file, as a module's is, has none: what it says of an address is relative to a
section, and readers are told where that is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

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
    EM_AARCH64,
    EM_PPC64,
    EM_RISCV,
    EM_X86_64,
    EV_CURRENT,
    MAX_EHDR_SIZE,
    PT_LOAD,
)
from vmcorefs.core.elf.machines import EM_S390
from vmcorefs.core.elf.notes import NT_GNU_BUILD_ID, ByteOrder, pack_note
from vmcorefs.core.structures.kallsyms import Addresses, SymbolTable
from vmcorefs.core.structures.types.btf_table import Rows
from vmcorefs.errors import UnsupportedError

SHT_PROGBITS, SHT_NOTE, SHT_NOBITS = 1, 7, 8
"""``sh_type`` of a section with bytes, of one with notes, and of one without bytes."""

SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
"""``sh_flags``; SHF_ALLOC: it was in memory."""

_ET_REL, _ET_EXEC = 1, 2
_SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA = 2, 3, 4
_SHF_INFO_LINK = 0x40
_SHN_ABS = 0xFFF1
_STB_LOCAL, _STB_GLOBAL, _STB_WEAK = 0, 1, 2
_STT_OBJECT, _STT_FUNC, _STT_SECTION = 1, 2, 3
_PF_X, _PF_W, _PF_R = 1, 2, 4
_EHDR, _PHDR, _SHDR = "HHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ"
_SYMBOL = (
    *(("name", "u4"), ("info", "u1"), ("other", "u1")),
    *(("shndx", "u2"), ("value", "u8"), ("size", "u8")),
)
_RELA = (("offset", "u8"), ("info", "u8"), ("addend", "i8"))
# a relocation that is an address of 64 bits, in each architecture's ABI
_ABS64: Final = {EM_X86_64: 1, EM_AARCH64: 257, EM_RISCV: 2, EM_PPC64: 38, EM_S390: 22}
_PHDR_SIZE = struct.calcsize(f"={_PHDR}")
_SHDR_SIZE = struct.calcsize(f"={_SHDR}")

PER_CPU = ".data..percpu"
"""The section of per-CPU variables: the kernel copies it for each CPU, and frees it."""

DEBUG_INFO, DEBUG_FRAME = ".debug_info", ".debug_frame"
"""The sections that hold addresses."""


class Held(msgspec.Struct, frozen=True, eq=False):
    """Addresses in the content of a section.

    Attributes:
        at: int64, where each is, in bytes.
        addresses: uint64, each.
    """

    at: Rows
    addresses: Addresses


class Section(msgspec.Struct, frozen=True):
    """A section header and its content; ``size`` is its size where it has no content.

    ``addr`` is where it was in memory, also in a relocatable file, whose header does not say it.
    """

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


class Contents(msgspec.Struct, frozen=True, eq=False):
    """What a file of debug information holds besides symbols; None where it is not known.

    Attributes:
        image: The bytes of some of the sections that were in memory, by name.
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

    def fill(self, section: Section) -> Section:
        """A section that was in memory, with its bytes if they are known."""
        if section.name not in self.image:
            return section
        return replace(section, sh_type=SHT_PROGBITS, content=self.image[section.name])

    def sections(self, byte_order: ByteOrder) -> Iterator[Section]:
        """All sections but those of the image."""
        if self.build_id is not None:
            note = pack_note(b"GNU", NT_GNU_BUILD_ID, self.build_id, byte_order)
            yield Section(".note.gnu.build-id", SHT_NOTE, content=note, align=4)
        if self.btf is not None:
            yield Section(".BTF", SHT_PROGBITS, content=self.btf, align=8)
        if self.debug_frame is not None:
            yield Section(DEBUG_FRAME, SHT_PROGBITS, content=self.debug_frame, align=8)
        if self.dwarf is not None:
            yield Section(DEBUG_INFO, SHT_PROGBITS, content=self.dwarf.entries.info)
            yield Section(".debug_abbrev", SHT_PROGBITS, content=self.dwarf.abbrev)
            yield Section(".debug_str", SHT_PROGBITS, content=self.dwarf.strings)
            yield Section(".debug_line", SHT_PROGBITS, content=self.dwarf.lines)


def make_file(
    symbols: SymbolTable,
    sections: Sequence[Section],
    *,
    machine: int,
    byte_order: ByteOrder,
    held: Mapping[str, Held] | None = None,
) -> bytes:
    """Build a file.

    Args:
        symbols: Its symbols, of a 64-bit kernel.
        sections: Its sections; in a relocatable file, those that were in memory in the order of
            their addresses.
        machine: ``e_machine``.
        byte_order: Its.
        held: For a relocatable file, the addresses that sections hold, by their names; None for an
            executable.

    Raises:
        UnsupportedError: if it has 32 bits, or if nothing is known of the machine's relocations.
    """
    if symbols.word_size != 8:
        raise UnsupportedError(f"no debug file for a kernel of {symbols.word_size * 8} bits")
    sections = [Section("", 0), *sections]
    table, local_count = _make_symtab(symbols, sections, byte_order, relative=held is not None)
    strings = ("\0" + "\0".join(symbols.names) + "\0").encode("latin-1")
    symtab = Section(".symtab", _SHT_SYMTAB, content=table, align=8, entsize=24)
    symtab_at = len(sections)
    sections.append(replace(symtab, link=symtab_at + 1, info=local_count))
    sections.append(Section(".strtab", _SHT_STRTAB, content=strings))
    if held is not None:
        if machine not in _ABS64:
            raise UnsupportedError(f"no relocatable file for machine {machine}")
        for number, section in enumerate(sections[:symtab_at]):
            if section.name in held:
                sections[number], rela = _relocate(
                    section, held[section.name], sections, _ABS64[machine], byte_order
                )
                sections.append(replace(rela, link=symtab_at, info=number))
    return _pack(sections, machine, byte_order, relative=held is not None)


def _relocate(
    section: Section, held: Held, sections: Sequence[Section], kind: int, byte_order: ByteOrder
) -> tuple[Section, Section]:
    """A section without the addresses that it holds, and their relocations."""
    spans = [(s.addr, s.addr + s.size) for s in sections if is_in_memory(s)]
    starts, ends = np.array(spans, dtype=np.uint64).reshape(-1, 2).T
    # the symbol of no section is 0
    symbol = starts.searchsorted(held.addresses, side="right")
    inside = symbol > 0
    inside[inside] = held.addresses[inside] < ends[symbol[inside] - 1]
    at, symbol, addresses = held.at[inside], symbol[inside], held.addresses[inside]
    content = np.frombuffer(section.content, dtype=np.uint8).copy()
    content[at[:, None] + np.arange(8)] = 0
    entries = np.zeros(len(at), dtype=[(name, byte_order + form) for name, form in _RELA])
    entries["offset"] = at
    entries["info"] = symbol << 32 | kind
    entries["addend"] = (addresses - starts[symbol - 1]).view(np.int64)
    rela = Section(
        f".rela{section.name}",
        _SHT_RELA,
        flags=_SHF_INFO_LINK,
        content=entries.tobytes(),
        align=8,
        entsize=entries.itemsize,
    )
    return replace(section, content=content.tobytes()), rela


def _make_symtab(
    symbols: SymbolTable, sections: Sequence[Section], byte_order: ByteOrder, *, relative: bool
) -> tuple[bytes, int]:
    """The symbol table, and the number of its local symbols, which come first (gABI)."""
    origin = [section.addr if relative else 0 for section in sections]
    dtype = np.dtype([(f"st_{name}", byte_order + kind) for name, kind in _SYMBOL])
    # entry 0 is no symbol; a section has one without a name, which crash finds .rodata by
    places = [(n, s.addr - origin[n]) for n, s in enumerate(sections) if is_in_memory(s)]
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
    own["st_shndx"], own["st_size"] = _place_symbols(symbols.addresses, sections)
    known = own["st_shndx"] < len(sections)
    own["st_value"] = symbols.addresses
    own["st_value"][known] -= np.array(origin, dtype=np.uint64)[own["st_shndx"][known]]
    is_global = table["st_info"] >> 4 != _STB_LOCAL
    order = np.argsort(is_global, kind="stable")
    return table[order].tobytes(), len(table) - int(is_global.sum())


def _symbol_info(kind: str) -> int:
    bind = _STB_GLOBAL if kind.isupper() else _STB_LOCAL
    if kind in "wWvV":
        bind = _STB_WEAK
    return bind << 4 | (_STT_FUNC if kind in "tTwW" else _STT_OBJECT)


def _place_symbols(
    addresses: Addresses, sections: Sequence[Section]
) -> tuple[npt.NDArray[np.uint16], Addresses]:
    """The section and the size of each symbol.

    A symbol reaches to the next address that has one, or to the end of its section. If several
    share an address, only the first gets that size: it is the one that the kernel prints in an
    oops (kernel/kallsyms.c, ``get_symbol_pos``), and gdb and elfutils prefer symbols with a size.
    """
    rows = sorted(
        (section.addr, section.addr + section.size, number)
        for number, section in enumerate(sections)
        if is_in_memory(section)
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


def _pack(sections: list[Section], machine: int, byte_order: ByteOrder, *, relative: bool) -> bytes:
    """The whole file: header, contents, section headers."""
    sections.append(Section(".shstrtab", _SHT_STRTAB))
    names, name_at = b"", []
    for section in sections:
        name_at.append(len(names))
        names += section.name.encode() + b"\0"
    sections[-1] = replace(sections[-1], content=names)

    is_loaded = [not relative and is_in_memory(section) for section in sections]
    loads = sum(is_loaded)
    parts, headers, segments = [], [], []
    offset = MAX_EHDR_SIZE + loads * _PHDR_SIZE
    for section, name, loaded in zip(sections, name_at, is_loaded, strict=True):
        padding = -offset % section.align if section.content else 0
        offset += padding
        size = len(section.content) or section.size
        parts += [bytes(padding), section.content]
        shown = replace(section, addr=0) if relative else section
        headers.append(_pack_section(shown, name, offset, size, byte_order))
        if loaded:
            segments.append(_pack_segment(section, offset, size, byte_order))
        offset += len(section.content)
    padding = -offset % 8
    encoding = ELFDATA2LSB if byte_order == "<" else ELFDATA2MSB
    ident = ELF_MAGIC + bytes((ELFCLASS64, encoding, EV_CURRENT)) + bytes(9)
    ehdr = struct.pack(
        byte_order + _EHDR,
        *(_ET_REL if relative else _ET_EXEC, machine, EV_CURRENT, 0),
        *(MAX_EHDR_SIZE if loads else 0, offset + padding, 0),
        *(MAX_EHDR_SIZE, _PHDR_SIZE, loads, _SHDR_SIZE, len(sections), len(sections) - 1),
    )
    return b"".join([ident, ehdr, *segments, *parts, bytes(padding), *headers])


def is_in_memory(section: Section) -> bool:
    """Whether the kernel had it in memory."""
    return section.flags & SHF_ALLOC > 0


def _pack_section(
    section: Section, name: int, offset: int, size: int, byte_order: ByteOrder
) -> bytes:
    return struct.pack(
        byte_order + _SHDR,
        *(name, section.sh_type, section.flags, section.addr),
        *(offset if section.sh_type else 0, size, section.link, section.info),
        *(section.align if section.sh_type else 0, section.entsize),
    )


def _pack_segment(section: Section, offset: int, size: int, byte_order: ByteOrder) -> bytes:
    """A part of the image; without them drgn does not know which addresses KASLR has moved."""
    flags = _PF_R
    flags |= _PF_W if section.flags & SHF_WRITE else 0
    flags |= _PF_X if section.flags & SHF_EXECINSTR else 0
    return struct.pack(
        byte_order + _PHDR,
        *(PT_LOAD, flags, offset, section.addr, section.addr),
        *(len(section.content), size, 1),
    )
