"""An ELF file that stands in for the kernel's ``vmlinux``, made from the kernel's memory.

It has a symbol table made from kallsyms, the kernel's BTF (Documentation/bpf/btf.rst) and its
build id. That is enough for gdb to show names when no debug package is at hand. It holds none of
the kernel's code or data: its sections only say which addresses are code and which are data, as
those of a file of debug information do (``objcopy --only-keep-debug``), and a debugger reads the
bytes from the dump. Addresses are those at run time: KASLR is applied, so gdb needs no offset.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.elf.elf import (
    ELF_MAGIC,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFDATA2MSB,
    EV_CURRENT,
    MAX_EHDR_SIZE,
)
from vmcorefs.core.elf.notes import NT_GNU_BUILD_ID, ByteOrder, pack_note
from vmcorefs.core.structures.kallsyms import Addresses, SymbolTable
from vmcorefs.errors import UnsupportedError

_ET_EXEC = 2
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOTE, _SHT_NOBITS = 1, 2, 3, 7, 8
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_SHN_ABS = 0xFFF1
_STB_LOCAL, _STB_GLOBAL, _STB_WEAK = 0, 1, 2
_STT_OBJECT, _STT_FUNC = 1, 2
_EHDR, _SHDR = "HHIQQQIHHHHHH", "IIQQQQIIQQ"
_SYMBOL = (
    *(("name", "u4"), ("info", "u1"), ("other", "u1")),
    *(("shndx", "u2"), ("value", "u8"), ("size", "u8")),
)
_SHDR_SIZE = struct.calcsize(f"={_SHDR}")

# name, first and end symbol (include/asm-generic/sections.h), flags
_RANGES = (
    (".data..percpu", "__per_cpu_start", "__per_cpu_end", _SHF_WRITE),
    (".text", "_stext", "_etext", _SHF_EXECINSTR),
    (".rodata", "__start_rodata", "__end_rodata", 0),
    (".data", "_sdata", "_edata", _SHF_WRITE),
    (".init.text", "_sinittext", "_einittext", _SHF_EXECINSTR),
    (".bss", "__bss_start", "__bss_stop", _SHF_WRITE),
)


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


def make_vmlinux(
    symbols: SymbolTable,
    *,
    machine: int,
    byte_order: ByteOrder,
    btf: bytes | None = None,
    build_id: bytes | None = None,
    debug_frame: bytes | None = None,
) -> bytes:
    """Build the file.

    Args:
        symbols: The kernel's own symbols, of a 64-bit kernel.
        machine: ``e_machine``.
        byte_order: The kernel's.
        btf: The kernel's BTF, if there is any.
        build_id: Descriptor of the build-id note, if it is known.
        debug_frame: How to unwind its stacks (``core.debuginfo.orc``), if that is known.

    Raises:
        UnsupportedError: if the kernel has 32 bits.
    """
    if symbols.word_size != 8:
        raise UnsupportedError(f"no vmlinux for a kernel of {symbols.word_size * 8} bits")
    sections = [_Section("", 0), *_lay_out_image(symbols)]
    if build_id is not None:
        note = pack_note(b"GNU", NT_GNU_BUILD_ID, build_id, byte_order)
        sections.append(_Section(".note.gnu.build-id", _SHT_NOTE, content=note, align=4))
    if btf is not None:
        sections.append(_Section(".BTF", _SHT_PROGBITS, content=btf, align=8))
    if debug_frame is not None:
        sections.append(_Section(".debug_frame", _SHT_PROGBITS, content=debug_frame, align=8))
    table, local_count = _make_symtab(symbols, sections, byte_order)
    strings = ("\0" + "\0".join(symbols.names) + "\0").encode("latin-1")
    symtab = _Section(".symtab", _SHT_SYMTAB, content=table, align=8, entsize=24)
    sections.append(replace(symtab, link=len(sections) + 1, info=local_count))
    sections.append(_Section(".strtab", _SHT_STRTAB, content=strings))
    return _pack(sections, machine, byte_order)


def _lay_out_image(symbols: SymbolTable) -> Iterator[_Section]:
    """Sections for all addresses from the start of the image to ``_end``, in order, without a gap.

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
    table = np.zeros(len(symbols) + 1, dtype=dtype)  # entry 0 is no symbol
    lengths = np.fromiter(map(len, symbols.names), dtype=np.int64, count=len(symbols))
    info = np.array([_symbol_info(chr(code)) for code in range(256)], dtype=np.uint8)
    kinds = np.frombuffer(symbols.types.encode("latin-1"), dtype=np.uint8)
    table["st_name"][1:] = np.concatenate(([0], np.cumsum(lengths + 1)[:-1])) + 1
    table["st_info"][1:] = info[kinds]
    table["st_value"][1:] = symbols.addresses
    table["st_shndx"][1:], table["st_size"][1:] = _place_symbols(symbols.addresses, sections)
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
    rows = [
        (section.addr, section.addr + section.size, number)
        for number, section in enumerate(sections)
        if section.sh_type == _SHT_NOBITS
    ]
    image = np.array([(0, 0, _SHN_ABS), *rows], dtype=np.uint64)
    row = image[1:, 0].searchsorted(addresses, side="right")
    inside = addresses < image[row, 1]
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

    parts, headers, offset = [], [], MAX_EHDR_SIZE
    for section, name in zip(sections, name_at, strict=True):
        padding = -offset % section.align if section.content else 0
        offset += padding
        size = len(section.content) or section.size
        parts += [bytes(padding), section.content]
        headers.append(
            struct.pack(
                byte_order + _SHDR,
                name,
                section.sh_type,
                section.flags,
                section.addr,
                offset if section.sh_type else 0,
                size,
                section.link,
                section.info,
                section.align if section.sh_type else 0,
                section.entsize,
            )
        )
        offset += len(section.content)
    padding = -offset % 8
    encoding = ELFDATA2LSB if byte_order == "<" else ELFDATA2MSB
    ident = ELF_MAGIC + bytes((ELFCLASS64, encoding, EV_CURRENT)) + bytes(9)
    ehdr = struct.pack(
        byte_order + _EHDR,
        *(_ET_EXEC, machine, EV_CURRENT, 0, 0, offset + padding, 0),
        *(MAX_EHDR_SIZE, 0, 0, _SHDR_SIZE, len(sections), len(sections) - 1),
    )
    return b"".join([ident, ehdr, *parts, bytes(padding), *headers])
