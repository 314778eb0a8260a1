"""ELF core headers of both classes and byte orders, as numpy tables.

Field names are the specification's (System V gABI, chapters 4 and 5). Program headers are held
in one structured array of host order and 64-bit width, whatever the file has, so that nothing
outside this module depends on class or byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.space.units import counted
from vmcorefs.errors import FormatError, UnsupportedError

ELF_MAGIC = b"\x7fELF"
ELFCLASS32, ELFCLASS64 = 1, 2
ELFDATA2LSB, ELFDATA2MSB = 1, 2
EV_CURRENT = 1
ET_CORE = 4
PT_LOAD, PT_NOTE = 1, 4
PF_RWX = 7
PN_XNUM = 0xFFFF

EM_386, EM_MIPS, EM_PPC64, EM_X86_64, EM_AARCH64, EM_RISCV = 3, 8, 21, 62, 183, 243

MAX_EHDR_SIZE = 64

_BYTE_ORDERS: dict[int, ByteOrder] = {ELFDATA2LSB: "<", ELFDATA2MSB: ">"}
_EHDR_FORMAT = {ELFCLASS32: "HHIIIIIHHHHHH", ELFCLASS64: "HHIQQQIHHHHHH"}
_EHDR_FIELDS = (
    *("e_type", "e_machine", "e_version", "e_entry", "e_phoff", "e_shoff", "e_flags"),
    *("e_ehsize", "e_phentsize", "e_phnum", "e_shentsize", "e_shnum", "e_shstrndx"),
)
_EHDR_SIZE = {ELFCLASS32: 52, ELFCLASS64: 64}
_PHDR_FIELDS = {
    ELFCLASS32: "p_type p_offset p_vaddr p_paddr p_filesz p_memsz p_flags p_align",
    ELFCLASS64: "p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align",
}
_PHDR_SIZE = {ELFCLASS32: 32, ELFCLASS64: 56}
_SHDR_FORMAT = {ELFCLASS32: "10I", ELFCLASS64: "IIQQQQIIQQ"}
_SHDR_FIELDS = ("sh_name", "sh_type", "sh_flags", "sh_addr", "sh_offset", "sh_size")

_NARROW = ("p_type", "p_flags")
"""``Elf64_Word`` in both classes (elf(5)); the other fields are as wide as the class."""

PHDR_DTYPE = np.dtype(
    [(name, "u4" if name in _NARROW else "u8") for name in _PHDR_FIELDS[ELFCLASS64].split()]
)
"""One program header in host order, 56 bytes; unsigned, because the file may hold any value."""

PhdrTable = npt.NDArray[np.void]
"""Shape ``(n,)``, dtype ``PHDR_DTYPE``."""


class ElfHeader(msgspec.Struct, frozen=True):
    """An ELF header that has passed ``parse_ehdr``.

    Attributes:
        raw: Its bytes, 52 or 64.
        elf_class: ``ELFCLASS32`` or ``ELFCLASS64``.
        byte_order: ``<`` or ``>``, as ``struct`` and numpy spell it.
        e_type: ``ET_CORE`` for every dump.
        e_machine: Architecture, ``EM_*``.
        e_phoff: Offset of the program headers, in bytes.
        e_phnum: Their number according to the header.
    """

    raw: bytes
    elf_class: int
    byte_order: ByteOrder
    e_type: int
    e_machine: int
    e_phoff: int
    e_phnum: int

    @property
    def ehdr_size(self) -> int:
        """Bytes in the ELF header: 52 or 64."""
        return _EHDR_SIZE[self.elf_class]

    @property
    def phdr_size(self) -> int:
        """Bytes in one program header: 32 or 56."""
        return _PHDR_SIZE[self.elf_class]

    @property
    def e_flags(self) -> int:
        """Its meaning depends on the program that wrote it."""
        layout = self.byte_order + _EHDR_FORMAT[self.elf_class]
        values = struct.unpack_from(layout, self.raw, 16)
        return int(values[_EHDR_FIELDS.index("e_flags")])


def parse_ehdr(data: bytes) -> ElfHeader:
    """Read an ELF header by the rules that /proc/vmcore applies to an elfcorehdr.

    The rules are those of fs/proc/vmcore.c, ``parse_crash_elf64_headers``: magic, version,
    ET_CORE, exact sizes, at least one program header. Every writer of an elfcorehdr puts the
    program headers right after the ELF header, so ``e_phoff`` must say so.

    Args:
        data: The file's first bytes, at least ``MAX_EHDR_SIZE``.

    Raises:
        FormatError: with the field, its value and what was expected.
    """
    header, fields = decode_ehdr(data)
    expected = {
        "EI_VERSION": EV_CURRENT,
        "e_version": EV_CURRENT,
        "e_type": ET_CORE,
        "e_ehsize": header.ehdr_size,
        "e_phentsize": header.phdr_size,
        "e_phoff": header.ehdr_size,
    }
    for name, wanted in expected.items():
        if fields[name] != wanted:
            raise FormatError(f"{name} is {fields[name]}, expected {wanted}")
    if header.e_phnum in (0, PN_XNUM):
        raise FormatError(f"e_phnum is {header.e_phnum}: the kernel accepts 1 to {PN_XNUM - 1}")
    return header


def decode_ehdr(data: bytes) -> tuple[ElfHeader, dict[str, int]]:
    """Read an ELF header, checking only that it is one.

    Args:
        data: The file's first bytes, at least ``MAX_EHDR_SIZE``.

    Returns:
        The header, and all of its fields by name; for ``e_ident``, only ``EI_VERSION``.

    Raises:
        FormatError: if it is not an ELF header of a known class and byte order.
    """
    if data[:4] != ELF_MAGIC or len(data) < MAX_EHDR_SIZE:
        raise FormatError(f"not an ELF header: starts with {data[:4]!r}, expected {ELF_MAGIC!r}")
    elf_class, data_encoding, ident_version = data[4], data[5], data[6]
    if elf_class not in _EHDR_SIZE or data_encoding not in _BYTE_ORDERS:
        raise FormatError(f"ELF class {elf_class}, data encoding {data_encoding}: expected 1 or 2")
    byte_order = _BYTE_ORDERS[data_encoding]
    values = struct.unpack_from(byte_order + _EHDR_FORMAT[elf_class], data, 16)
    fields = dict(zip(_EHDR_FIELDS, values, strict=True), EI_VERSION=ident_version)
    header = ElfHeader(
        data[: _EHDR_SIZE[elf_class]],
        elf_class,
        byte_order,
        fields["e_type"],
        fields["e_machine"],
        fields["e_phoff"],
        fields["e_phnum"],
    )
    return header, fields


def make_ehdr(
    *, e_machine: int, elf_class: int = ELFCLASS64, byte_order: ByteOrder = "<"
) -> ElfHeader:
    """Build the header that kernel/crash_core.c writes, without program headers."""
    encoding = ELFDATA2LSB if byte_order == "<" else ELFDATA2MSB
    ident = ELF_MAGIC + bytes((elf_class, encoding, EV_CURRENT)) + bytes(9)
    size, phentsize = _EHDR_SIZE[elf_class], _PHDR_SIZE[elf_class]
    fields = (ET_CORE, e_machine, EV_CURRENT, 0, size, 0, 0, size, phentsize, 0, 0, 0, 0)
    raw = ident + struct.pack(byte_order + _EHDR_FORMAT[elf_class], *fields)
    return ElfHeader(raw, elf_class, byte_order, ET_CORE, e_machine, size, 0)


def with_flags(header: ElfHeader, e_flags: int) -> ElfHeader:
    """The same header with other ``e_flags``."""
    layout = header.byte_order + _EHDR_FORMAT[header.elf_class]
    fields = list(struct.unpack_from(layout, header.raw, 16))
    fields[_EHDR_FIELDS.index("e_flags")] = e_flags
    return replace(header, raw=header.raw[:16] + struct.pack(layout, *fields))


def parse_phdrs(header: ElfHeader, data: bytes | memoryview, count: int | None = None) -> PhdrTable:
    """Read program headers; the table may be a view of ``data``, which cannot be written to.

    Args:
        header: The ELF header that they belong to.
        data: Bytes that start with the first of them.
        count: How many; None for as many as the header says.

    Raises:
        FormatError: if ``data`` is too short for them.
    """
    count = header.e_phnum if count is None else count
    needed = count * header.phdr_size
    if len(data) < needed:
        raise FormatError(
            f"{counted(count, 'program header')}: {needed} bytes, but there are {len(data)}"
        )
    stored = np.frombuffer(data, dtype=_file_dtype(header), count=count)
    # ELF32 has the fields in another order; astype goes by position
    names = list(PHDR_DTYPE.names or ())
    table: PhdrTable = stored[names] if stored.dtype.names != PHDR_DTYPE.names else stored
    return table.astype(PHDR_DTYPE, copy=False)


def select_phdrs(phdrs: PhdrTable, mask: npt.NDArray[np.bool_]) -> PhdrTable:
    """The rows that a mask selects: a view that cannot be written to, if they are neighbours.

    The PT_LOADs are, in what kernels and kexec-tools make. A million of them are 56 MB.
    """
    count = int(np.count_nonzero(mask))
    first = int(np.argmax(mask)) if count else 0
    neighbours = bool(mask[first : first + count].all())
    selected: PhdrTable = phdrs[first : first + count] if neighbours else phdrs[mask]
    selected.flags.writeable = False
    return selected


def iter_sections(header: ElfHeader, data: bytes) -> Iterator[dict[str, int]]:
    """Each whole section header in ``data``, by field; that at the end may be cut off.

    Args:
        header: The ELF header that they belong to.
        data: Bytes that start with the first of them, at ``e_shoff``.
    """
    layout = struct.Struct(header.byte_order + _SHDR_FORMAT[header.elf_class])
    for values in layout.iter_unpack(data[: len(data) // layout.size * layout.size]):
        yield dict(zip(_SHDR_FIELDS, values, strict=False))


def extended_phnum(header: ElfHeader, section: bytes) -> int:
    """The number of program headers, from section header 0, when ``e_phnum`` is ``PN_XNUM``.

    Args:
        header: The ELF header.
        section: Bytes that start with section header 0.

    Raises:
        FormatError: if ``section`` is too short.
    """
    layout = header.byte_order + _SHDR_FORMAT[header.elf_class]
    if len(section) < struct.calcsize(layout):
        raise FormatError(f"section header 0 has {len(section)} bytes")
    return int(struct.unpack_from(layout, section)[7])


def pack_headers(
    header: ElfHeader,
    *tables: PhdrTable,
    size: int = 0,
    p_offset: npt.NDArray[np.int64] | None = None,
) -> memoryview:
    """Encode the ELF header followed by the program headers of all tables; nobody can write there.

    65535 or more of them are written by the gABI's extended numbering: ``e_phnum`` is ``PN_XNUM``
    and the number is in ``sh_info`` of a section header 0, right after them. crash, makedumpfile,
    drgn and libkdumpfile read that.

    Args:
        header: The ELF header.
        tables: Their program headers, in order.
        size: How many bytes it has at least; what is left of them is zeros.
        p_offset: That of each program header, shape ``(n,)``; None for what the tables say.

    Raises:
        UnsupportedError: if a field does not fit into ELF32.
    """
    count = sum(map(len, tables))
    whole = headers_size(header, count)
    packed = bytearray(max(size, whole))  # a million of them are written once
    extended = count >= PN_XNUM
    section = b""
    if extended:
        layout = header.byte_order + _SHDR_FORMAT[header.elf_class]
        section = struct.pack(layout, *(0,) * 7, count, 0, 0)
    at = whole - len(section)
    updated = replace(header, e_phnum=PN_XNUM if extended else count)
    ehdr = _pack_ehdr(updated, e_shoff=at if extended else 0, e_shnum=int(extended))
    packed[: len(ehdr)], packed[at:whole] = ehdr, section
    _store_phdrs(memoryview(packed)[len(ehdr) : at], _file_dtype(header), tables, p_offset)
    return memoryview(packed).toreadonly()


def _store_phdrs(
    buffer: memoryview,
    dtype: np.dtype[np.void],
    tables: Sequence[PhdrTable],
    p_offset: npt.NDArray[np.int64] | None,
) -> None:
    stored = np.frombuffer(buffer, dtype=dtype)
    for name in PHDR_DTYPE.names or ():
        columns = [table[name] for table in tables]
        if name == "p_offset" and p_offset is not None:
            columns = [p_offset]
        largest = max((int(column.max(initial=0)) for column in columns), default=0)
        if largest > np.iinfo(dtype[name]).max:
            raise UnsupportedError(f"{name} {largest:#x} does not fit into ELF32")
        first = 0
        for column in columns:
            stored[name][first : first + len(column)] = column
            first += len(column)


def headers_size(header: ElfHeader, phnum: int) -> int:
    """Bytes that ``pack_headers`` returns for ``phnum`` program headers."""
    section = struct.calcsize(f"={_SHDR_FORMAT[header.elf_class]}") if phnum >= PN_XNUM else 0
    return header.ehdr_size + phnum * header.phdr_size + section


def _pack_ehdr(header: ElfHeader, *, e_shoff: int, e_shnum: int) -> bytes:
    # only the numbers change: the kernel copies e_flags, e_entry and EI_OSABI too
    layout = header.byte_order + _EHDR_FORMAT[header.elf_class]
    fields = list(struct.unpack_from(layout, header.raw, 16))
    fields[9] = header.e_phnum
    if e_shnum:
        fields[5], fields[10], fields[11] = (
            e_shoff,
            struct.calcsize(f"={_SHDR_FORMAT[header.elf_class]}"),
            e_shnum,
        )
    return header.raw[:16] + struct.pack(layout, *fields)


def _file_dtype(header: ElfHeader) -> np.dtype[np.void]:
    word = "u4" if header.elf_class == ELFCLASS32 else "u8"
    return np.dtype(
        [
            (name, header.byte_order + ("u4" if name in _NARROW else word))
            for name in _PHDR_FIELDS[header.elf_class].split()
        ]
    )
