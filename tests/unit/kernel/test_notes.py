"""The note buffers that an elfcorehdr points at."""

from __future__ import annotations

import struct

import pytest

from tests.builders import dead_machines
from tests.builders.dead_machines import (
    note_phdr,
    pack_elf,
    pack_note,
    prstatus_note,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from tests.builders.memory import reader_of
from tests.matching import exactly
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.errors import FaultError, FormatError
from vmcorefs.kernel.notes import CrashNotes, read_crash_notes

BASE, STEP = 0x10000, 0x200
LOAD = dead_machines.load_phdr(0x100000, 0x200000)
TORN = struct.pack("<3I", 5, 4096, 1) + b"CORE".ljust(8, b"\0")


def read(*slots: bytes, order: str = "<", drop_torn: bool = False) -> CrashNotes:
    """Read note buffers of 512 bytes that lie one behind the other."""
    phdrs = [note_phdr(BASE + n * STEP, STEP) for n in range(len(slots))]
    elfcorehdr = parse_elfcorehdr(pack_elf([*phdrs, LOAD], dead_machines.Flavour(order=order)))
    memory = b"".join(slot.ljust(STEP, b"\0") for slot in slots)
    return read_crash_notes(
        reader_of((BASE, memory)), elfcorehdr, drop_torn=drop_torn, drop_missing=False
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_slot_is_read_and_trimmed_in_the_order_of_the_elfcorehdr(order: str) -> None:
    cpu = prstatus_note(7, 8, 9, order)
    info = vmcoreinfo_note(b"OSRELEASE=6.1.0\n", order)
    notes = read(cpu, b"", cpu + pack_note(b"LINUX", 2, b"xy", order), info, order=order)
    assert [slot.start for slot in notes.slots] == [BASE + n * STEP for n in range(4)]
    assert [slot.size for slot in notes.slots] == [356, 0, 356 + 24, len(info)]
    assert [len(slot.data) for slot in notes.slots] == [STEP] * 4
    assert notes.size == 356 + 380 + len(info)
    assert notes.vmcoreinfo is not None
    assert notes.vmcoreinfo.release == "6.1.0"
    assert [slot.start for slot in notes.cpu_slots] == [BASE, BASE + STEP, BASE + 2 * STEP]
    assert notes.warnings == ()


def test_without_vmcoreinfo_nothing_is_known_of_the_kernel() -> None:
    assert read(prstatus_note(7, 8, 9)).vmcoreinfo is None


def test_a_torn_note_is_an_error_that_tells_the_way_around_it() -> None:
    with pytest.raises(
        FormatError,
        match=exactly(
            "note slot at 0x10200: note 1 at offset 0x164: n_namesz 5 and n_descsz 4096 end at"
            " 0x1178, but the buffer has 512 bytes; pass --drop-torn-notes to leave it out, as the"
            " kernel does"
        ),
    ):
        read(b"", prstatus_note(7, 8, 9) + TORN)


def test_a_torn_note_can_be_dropped_and_what_precedes_it_stays() -> None:
    notes = read(prstatus_note(7, 8, 9) + TORN, prstatus_note(1, 2, 3), drop_torn=True)
    assert [slot.size for slot in notes.slots] == [356, 356]
    assert notes.warnings == (
        (
            "note slot at 0x10000: note 1 at offset 0x164: n_namesz 5 and n_descsz 4096 end at"
            " 0x1178, but the buffer has 512 bytes"
        ),
    )


def _read_half(*, drop_missing: bool) -> CrashNotes:
    elfcorehdr = parse_elfcorehdr(
        pack_elf([note_phdr(BASE, 368), note_phdr(BASE + STEP, 368), LOAD])
    )
    memory = reader_of((BASE, prstatus_note(7, 8, 9).ljust(STEP + 4, b"\0")))
    return read_crash_notes(memory, elfcorehdr, drop_torn=False, drop_missing=drop_missing)


def test_a_slot_that_no_input_holds_is_an_error() -> None:
    with pytest.raises(
        FaultError,
        match=exactly("memory: no input holds [0x10204, 0x10370) (not in the table, 364 bytes)"),
    ):
        _read_half(drop_missing=False)


def test_a_slot_that_a_truncated_image_lacks_is_left_out_with_a_warning() -> None:
    notes = _read_half(drop_missing=True)
    assert [slot.start for slot in notes.slots] == [BASE]
    assert notes.warnings == (
        (
            "note slot at 0x10200 is left out: memory: no input holds [0x10204, 0x10370) (not in"
            " the table, 364 bytes)"
        ),
    )


def test_whole_notes_before_what_a_slot_lacks_are_kept() -> None:
    """VMCOREINFO's slot is longer than a page; the note in it is not."""
    elfcorehdr = parse_elfcorehdr(pack_elf([note_phdr(BASE, 4132), LOAD]))
    note = vmcoreinfo_note(vmcoreinfo_text())
    memory = reader_of((BASE, note.ljust(4096, b"\0")))
    notes = read_crash_notes(memory, elfcorehdr, drop_torn=False, drop_missing=True)
    (slot,) = notes.slots
    assert (slot.size, len(slot.data)) == (len(note), 4096)
    assert notes.vmcoreinfo is not None
    assert notes.vmcoreinfo.text == vmcoreinfo_text()
    (warning,) = notes.warnings
    assert warning.startswith(f"note slot at {BASE:#x}: what follows the first 4096 bytes is left")
