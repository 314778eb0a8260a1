"""The headers of a dump exactly as they are in the file: what a tool that opens it finds.

Nothing is taken for granted except that it is an ELF file: whether a dump meets a tool's rules
(``core/consumers/verdicts.py``) is judged by the bytes that the tool will read.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from vmcorefs.core.elf.elf import (
    ELFCLASS32,
    MAX_EHDR_SIZE,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    ElfHeader,
    PhdrTable,
    decode_ehdr,
    extended_phnum,
    parse_phdrs,
    select_phdrs,
)
from vmcorefs.core.elf.notes import Note, find_vmcoreinfo, walk_notes
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.errors import FormatError

MAX_PHDRS = 1 << 20
"""Most program headers accepted."""

MAX_NOTES = 64 << 20
"""Most bytes of notes accepted."""

_MAX_SHDR_SIZE = 64

ReadAt = Callable[[int, int], bytes]
"""From ``(size, offset)`` to the bytes there, fewer only at the end of the file."""


class DumpHeaders(msgspec.Struct, frozen=True):
    """Everything before a dump's memory.

    Attributes:
        header: Its ELF header; ``e_phnum`` as written, even if that is ``PN_XNUM``.
        phdrs: Its program headers, in their order.
        notes: The notes of each PT_NOTE, in their order.
        vmcoreinfo: Its VMCOREINFO, or None.
        size: Bytes in the whole file.
    """

    header: ElfHeader
    phdrs: PhdrTable
    notes: tuple[tuple[Note, ...], ...]
    vmcoreinfo: Vmcoreinfo | None
    size: int

    @property
    def loads(self) -> PhdrTable:
        """Its PT_LOADs, empty ones too."""
        return select_phdrs(self.phdrs, self.phdrs["p_type"] == PT_LOAD)

    @property
    def note_phdrs(self) -> PhdrTable:
        """Its PT_NOTEs."""
        return select_phdrs(self.phdrs, self.phdrs["p_type"] == PT_NOTE)

    @property
    def no_address(self) -> int:
        """The p_paddr or p_vaddr that means none: all bits set."""
        return 2**32 - 1 if self.header.elf_class == ELFCLASS32 else 2**64 - 1


def read_dump_headers(read: ReadAt, size: int, read_notes: ReadAt | None = None) -> DumpHeaders:
    """Read the headers and notes of a dump.

    Args:
        read: Reads the file.
        size: Bytes in the file.
        read_notes: Reads notes, if not in the same way: notes that cannot be read are none, but
            without headers there is no dump.

    Raises:
        FormatError: if it is not an ELF file, or has too many headers or notes.
    """
    header, fields = decode_ehdr(read(MAX_EHDR_SIZE, 0))
    if fields["e_phentsize"] != header.phdr_size:
        raise FormatError(f"e_phentsize is {fields['e_phentsize']}, expected {header.phdr_size}")
    count = header.e_phnum
    if count == PN_XNUM:
        count = extended_phnum(header, read(_MAX_SHDR_SIZE, fields["e_shoff"]))
    if count > MAX_PHDRS:
        raise FormatError(f"{count} program headers, expected at most {MAX_PHDRS}")
    phdrs = parse_phdrs(header, read(count * header.phdr_size, header.e_phoff), count)
    notes = _read_notes(read_notes or read, header, phdrs)
    text = find_vmcoreinfo(tuple(note for segment in notes for note in segment))
    vmcoreinfo = parse_vmcoreinfo(text) if text is not None else None
    return DumpHeaders(header, phdrs, notes, vmcoreinfo, size)


def _read_notes(read: ReadAt, header: ElfHeader, phdrs: PhdrTable) -> tuple[tuple[Note, ...], ...]:
    rows = np.flatnonzero(phdrs["p_type"] == PT_NOTE)
    spans = [(int(phdrs[row]["p_filesz"]), int(phdrs[row]["p_offset"])) for row in rows]
    total = sum(size for size, _ in spans)
    if total > MAX_NOTES:
        raise FormatError(f"notes of {total} bytes, expected at most {MAX_NOTES}")
    return tuple(walk_notes(read(*span), header.byte_order).notes for span in spans)
