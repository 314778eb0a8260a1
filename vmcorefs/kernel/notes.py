"""Reading the note buffers that an elfcorehdr points to, and merging them as the kernel does."""

from __future__ import annotations

from itertools import accumulate

import msgspec
from msgspec.structs import replace

from vmcorefs.core.elf.elf import ElfHeader
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.notes import (
    NT_PRSTATUS,
    NT_VMCOREINFO,
    ByteOrder,
    Note,
    find_vmcoreinfo,
    pack_note,
    walk_notes,
)
from vmcorefs.core.elf.registers import CpuRegisters, CpuState, decode_prstatus, encode_prstatus
from vmcorefs.core.elf.triage import find_triage
from vmcorefs.core.elf.vmcoreinfo import NOTE_NAME, Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.space.extents import Extents, Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import align_up
from vmcorefs.errors import FaultError, FormatError, UnreadableError
from vmcorefs.reader import Reader
from vmcorefs.sources.unreadable import read_up_to


class NoteSlot(msgspec.Struct, frozen=True):
    """One note buffer in memory.

    Attributes:
        start: Where it begins, in bytes: a physical address, or an address in ``CrashNotes.space``.
        data: All its bytes, ``p_memsz`` of its PT_NOTE.
        notes: The notes in it; none in the slot of a CPU that never saved its registers.
        size: Bytes that the notes take; the rest is not part of the vmcore.
        may_be_cpu: False if it is known not to be a CPU's, but a device's or QEMU's.
    """

    start: int
    data: bytes
    notes: tuple[Note, ...]
    size: int
    may_be_cpu: bool = True

    @property
    def room(self) -> int:
        """Bytes that they take in the vmcore, where the next slot follows: with their padding."""
        return align_up(self.size, 4)

    @property
    def is_cpu(self) -> bool:
        """Whether a CPU has saved its registers in it."""
        return any(note.is_prstatus for note in self.notes)

    @property
    def is_vmcoreinfo(self) -> bool:
        """Whether this is VMCOREINFO's slot and not a CPU's."""
        return any(note.is_vmcoreinfo for note in self.notes)

    def state(self, header: ElfHeader) -> CpuState | None:
        """The content of its NT_PRSTATUS, or None if it has none of a known layout."""
        states = (decode_prstatus(n, header.e_machine, header.byte_order) for n in self.notes)
        return next((state for state in states if state is not None), None)


class CrashNotes(msgspec.Struct, frozen=True):
    """The notes of the crashed kernel.

    Attributes:
        slots: Every note buffer, in the order of the elfcorehdr: CPUs first, VMCOREINFO last.
        vmcoreinfo: The text of VMCOREINFO, or None if there is none.
        given: Whole notes that follow the slots: of a VMCOREINFO or ERASEINFO that is in none.
        eraseinfo: What makedumpfile erased in the memory, its own text; empty if nothing.
        warnings: What was left out, and why.
        space: The table that the slots are read from, if not from physical memory: the file of a
            dump, or ``made``.
        made: Notes of the CPUs that were made of registers which the image's format has; empty if
            the notes are the kernel's own, or a dump's.
    """

    slots: tuple[NoteSlot, ...] = ()
    vmcoreinfo: Vmcoreinfo | None = None
    given: bytes = b""
    eraseinfo: bytes = b""
    warnings: tuple[str, ...] = ()
    space: Extents | None = None
    made: bytes = b""

    @property
    def erased(self) -> list[str]:
        """The lines of ``eraseinfo``."""
        lines = self.eraseinfo.decode("utf-8", "replace").replace("\0", "").split("\n")
        return [line for line in lines if line.strip()]

    @property
    def triage(self) -> dict[str, int] | None:
        """How many pages a triage dump has for each thing; None if the notes are of no such."""
        return find_triage(note for slot in self.slots for note in slot.notes)

    @property
    def size(self) -> int:
        """Size of all notes, trimmed and joined, in bytes: the size of the vmcore's PT_NOTE."""
        return sum(slot.room for slot in self.slots) + len(self.given)

    @property
    def cpu_slots(self) -> tuple[NoteSlot, ...]:
        """The slots of CPUs, in the order of the elfcorehdr."""
        return tuple(slot for slot in self.slots if slot.may_be_cpu and not slot.is_vmcoreinfo)


def read_crash_notes(
    memory: Reader,
    elfcorehdr: Elfcorehdr,
    *,
    drop_torn: bool,
    drop_missing: bool,
    given: Vmcoreinfo | None = None,
) -> CrashNotes:
    """Read and merge the notes by the rules of fs/proc/vmcore.c.

    Args:
        memory: The captured memory, by physical address.
        elfcorehdr: Its PT_NOTEs are read, by their ``p_offset``.
        drop_torn: Drop a torn note and what follows it in its slot, with a warning, as the kernel
            does; otherwise it is an error.
        drop_missing: Leave out a slot that the image does not hold, but for whole notes at its
            beginning, with a warning; otherwise it is an error. One that cannot be read always is.
        given: VMCOREINFO to use instead of the one in memory.

    Raises:
        FormatError: if a note is torn, and ``drop_torn`` is false.
        FaultError: if the image does not hold a slot, and ``drop_missing`` is false.
        SourceIOError: if the image cannot be read.
    """
    slots: list[NoteSlot] = []
    warnings: list[str] = []
    for phdr in elfcorehdr.notes:
        paddr, size = int(phdr["p_offset"]), int(phdr["p_memsz"])
        try:
            data = memory.pread(size, paddr)
        except FaultError as error:
            if not drop_missing and not isinstance(error, UnreadableError):
                raise
            slot = _read_beginning(memory, paddr, size, elfcorehdr.header.byte_order)
            if slot is None:
                warnings.append(f"note slot at {paddr:#x} is left out: {error}")
            else:
                what = f"what follows the first {len(slot.data)} bytes"
                warnings.append(f"note slot at {paddr:#x}: {what} is left out: {error}")
                slots.append(slot)
            continue
        walk = walk_notes(data, elfcorehdr.header.byte_order, padded=True)
        if walk.torn:
            message = f"note slot at {paddr:#x}: {walk.torn}"
            if not drop_torn:
                raise FormatError(
                    f"{message}; pass --drop-torn-notes to leave it out, as the kernel does"
                )
            warnings.append(message)
        slots.append(NoteSlot(paddr, data, walk.notes, walk.size))
    if given is not None:
        note = pack_note(NOTE_NAME, NT_VMCOREINFO, given.text, elfcorehdr.header.byte_order)
        cpus = tuple(slot for slot in slots if not slot.is_vmcoreinfo)
        return CrashNotes(cpus, given, note, warnings=tuple(warnings))
    text = find_vmcoreinfo(tuple(note for slot in slots for note in slot.notes))
    return CrashNotes(
        slots=tuple(slots),
        vmcoreinfo=parse_vmcoreinfo(text) if text is not None else None,
        warnings=tuple(warnings),
    )


def with_registers(
    notes: CrashNotes, cpus: CpuRegisters | None, header: ElfHeader, source: int
) -> CrashNotes:
    """The notes with those registers of the CPUs that somebody else kept, if the kernel kept none.

    Each becomes an NT_PRSTATUS, whose ``pr_pid`` is the CPU's number and one more, as in QEMU's
    dumps (target/i386/arch_dump.c): 0 is what the kernel writes for an idle CPU.

    Args:
        notes: Those in memory, or in a dump.
        cpus: The registers; None if nobody kept them.
        header: Of the vmcore.
        source: Which source will have ``made``.
    """
    if cpus is None or not cpus.cpus or any(slot.is_cpu for slot in notes.slots):
        return notes
    if header.e_machine != cpus.machine:
        told = f"the CPUs' registers are those of machine {cpus.machine}, not {header.e_machine}"
        return replace(notes, warnings=(*notes.warnings, f"{told}: they are left out"))
    order = header.byte_order
    descs = (
        encode_prstatus(number, registers, cpus.machine, order)
        for number, registers in enumerate(cpus.cpus, start=1)
    )
    packed = [pack_note(b"CORE", NT_PRSTATUS, desc, order) for desc in descs]
    starts = accumulate(map(len, packed), initial=0)
    slots = (
        NoteSlot(start, data, walk_notes(data, order).notes, len(data))
        for start, data in zip(starts, packed, strict=False)
    )
    made, given = b"".join(packed), notes.given
    if not given and notes.vmcoreinfo is not None:  # in memory, where the slots no longer are
        given = pack_note(NOTE_NAME, NT_VMCOREINFO, notes.vmcoreinfo.text, order)
    space = make_extents(make_ranges([(0, len(made))]), kind=Kind.DATA, source=source)
    return replace(notes, slots=tuple(slots), given=given, space=space, made=made)


def _read_beginning(
    memory: Reader, paddr: int, size: int, byte_order: ByteOrder
) -> NoteSlot | None:
    """The whole notes before what cannot be read of a slot; None if there is none.

    VMCOREINFO's slot is longer than a page, and its text is not.
    """
    data, _ = read_up_to(memory.pread_into, paddr, size)
    walk = walk_notes(data, byte_order, padded=True)
    return NoteSlot(paddr, data, walk.notes, walk.size) if walk.notes else None
