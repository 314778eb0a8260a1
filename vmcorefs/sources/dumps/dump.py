"""A dump of any format: a file that says which memory it holds."""

from __future__ import annotations

import msgspec

from vmcorefs.core.elf.elf import ElfHeader
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.notes import ByteOrder, walk_notes
from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.formats.kdump.headers import KdumpHeaders
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.ranges import Ranges
from vmcorefs.sources.base import Source
from vmcorefs.sources.unreadable import read_up_to


class NoteSegment(msgspec.Struct, frozen=True):
    """ELF notes of a dump.

    Attributes:
        offset: Where they are, in bytes from the start of ``DumpFile.notes_in``.
        data: All their bytes.
    """

    offset: int
    data: bytes


def read_segment(
    file: Source, offset: int, size: int, byte_order: ByteOrder, warnings: list[str]
) -> NoteSegment:
    """Read notes; of a segment that cannot be read whole, the whole notes before the bad page.

    Args:
        file: What they are in.
        offset: Where they are.
        size: How many bytes they take; all of them are in the file.
        byte_order: Of the dump.
        warnings: Gets a line for each segment that is not whole.
    """
    data, why = read_up_to(file.pread_into, offset, size)
    if why:
        data = data[: walk_notes(data, byte_order).size]
        warnings.append(f"{size - len(data)} of {size} bytes of notes are left out: {why}")
    return NoteSegment(offset, data)


class DumpFile(msgspec.Struct, frozen=True):
    """An opened dump.

    Attributes:
        name: The path, as the user gave it.
        format: Its format, for people.
        sources: The sources that its tables index.
        memory: The memory that it holds, by physical address; RAM of ``plan`` that is not in it is
            missing.
        plan: Its RAM, and where that was mapped, in the form of an elfcorehdr.
        has_vaddrs: Whether ``plan`` says where memory was mapped.
        missing: RAM that the file has lost, a normal set.
        lost: A description of the missing RAM, for people.
        notes: Its notes.
        notes_in: The address space of their offsets.
        vmcoreinfo: The text of VMCOREINFO, if it is not among the notes.
        eraseinfo: What makedumpfile erased in it, if that is not among the notes.
        headers: Those of the kdump-compressed format, if it has that.
        vmcore: The table of the vmcore, if the file itself is one.
        machine: What it calls its machine.
        granule: Bytes that its RAM is rounded to: a format may know only whole pages.
        cpus: The registers of its CPUs, if its format has them in another form than as notes.
        warnings: What a person should know about it.
    """

    name: str
    format: str
    sources: tuple[Source, ...]
    memory: Extents
    plan: Elfcorehdr
    has_vaddrs: bool
    missing: Ranges
    lost: str
    notes: tuple[NoteSegment, ...]
    notes_in: Extents
    vmcoreinfo: bytes | None = None
    eraseinfo: bytes = b""
    headers: KdumpHeaders | None = None
    vmcore: Extents | None = None
    machine: str = ""
    granule: int = 1
    cpus: CpuRegisters | None = None
    warnings: tuple[str, ...] = ()

    @property
    def header(self) -> ElfHeader:
        """The ELF header of its vmcore."""
        return self.plan.header

    def close(self) -> None:
        """Close its files."""
        for source in self.sources:
            source.close()
