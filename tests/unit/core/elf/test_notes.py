"""ELF notes, packed and walked as kernel/vmcore_info.c and fs/proc/vmcore.c do."""

from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from tests.builders import dead_machines
from tests.matching import exactly
from vmcorefs.core.elf.notes import (
    ByteOrder,
    Note,
    find_vmcoreinfo,
    pack_note,
    walk_notes,
)


def test_names_and_descriptors_are_padded_to_4_and_never_to_8() -> None:
    # namesz 5 -> 8, descsz 1 -> 4: an 8-byte walk would put the next note elsewhere
    assert pack_note(b"CORE", 1, b"\xaa") == bytes.fromhex(
        "050000000100000001000000434f5245 00000000aa000000"
    )


def test_a_big_endian_note_has_a_big_endian_header() -> None:
    assert pack_note(b"A", 2, b"", ">") == bytes.fromhex("00000002000000000000000241000000")


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match=exactly(r"note name b'CO\x00RE' contains a NUL")):
        pack_note(b"CO\0RE", 1, b"")


def test_notes_are_found_with_their_offsets_up_to_a_zero_namesz() -> None:
    slot = dead_machines.pack_note(b"CORE", 1, b"12345") + dead_machines.pack_note(
        b"LINUX", 7, b"x"
    )
    walk = walk_notes(slot + bytes(12) + b"garbage behind the end", "<")
    assert walk.notes == (Note(b"CORE", 1, b"12345", 0), Note(b"LINUX", 7, b"x", 28))
    assert walk.size == len(slot)
    assert walk.torn == ""


@pytest.mark.parametrize("slot", [b"", bytes(11), bytes(368)])
def test_a_slot_that_was_never_filled_has_no_notes_and_takes_no_bytes(slot: bytes) -> None:
    walk = walk_notes(slot, "<")
    assert (walk.notes, walk.size, walk.torn) == ((), 0, "")


def test_fewer_bytes_than_a_note_header_end_the_walk() -> None:
    whole = dead_machines.pack_note(b"CORE", 1, b"")
    assert walk_notes(whole + b"\1" * 11, "<").size == len(whole)


def test_a_zero_namesz_ends_the_walk_whatever_else_its_header_holds() -> None:
    assert walk_notes(struct.pack("<3I", 0, 4, 1) + b"desc", "<").notes == ()


def test_a_note_header_that_ends_with_its_slot_is_torn() -> None:
    assert walk_notes(struct.pack("<3I", 5, 0, 1), "<").torn != ""


def test_a_note_that_ends_with_its_slot_is_whole() -> None:
    whole = dead_machines.pack_note(b"CORE", 1, bytes(340))
    assert walk_notes(whole, "<").torn == ""
    assert len(walk_notes(whole, "<").notes) == 1


@pytest.mark.parametrize(
    ("namesz", "descsz", "end"),
    [(5, 0xFFFFFFFF, 0x10000002C), (0xFFFFFFFF, 0xFFFFFFFF, 0x200000024), (5, 361, 0x198)],
)
def test_a_torn_note_and_what_follows_it_is_left_out_with_the_reason(
    namesz: int, descsz: int, end: int
) -> None:
    whole = dead_machines.pack_note(b"CORE", 1, b"ab")
    slot = (whole + struct.pack("<3I", namesz, descsz, 1)).ljust(368, b"\1")
    walk = walk_notes(slot, "<")
    assert [note.desc for note in walk.notes] == [b"ab"]
    assert walk.size == len(whole)
    assert walk.torn == (
        f"note 1 at offset {len(whole):#x}: n_namesz {namesz} and n_descsz {descsz} end at"
        f" {end:#x}, but the buffer has 368 bytes"
    )


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_last_note_needs_its_padding_for_the_kernel_alone(cut: int) -> None:
    whole = dead_machines.pack_note(b"CORE", 1, b"desc")
    last = dead_machines.pack_note(b"VMCOREINFO", 0, b"KEY=value\n"[: 12 - cut])[: -(cut % 4)]
    buffer = whole + last
    walk = walk_notes(buffer, "<")
    assert [note.desc for note in walk.notes] == [b"desc", b"KEY=value\n"[: 12 - cut]]
    assert (walk.size, walk.torn) == (len(buffer), "")
    strict = walk_notes(buffer, "<", padded=True)
    assert [note.desc for note in strict.notes] == [b"desc"]
    assert strict.torn.startswith(f"note 1 at offset {len(whole):#x}: ")


def test_a_note_that_lacks_a_byte_of_its_own_is_torn() -> None:
    assert walk_notes(dead_machines.pack_note(b"CORE", 1, b"desc")[:-1], "<").torn != ""


def test_the_last_vmcoreinfo_note_counts() -> None:
    notes = (
        Note(b"VMCOREINFO", 0, b"first", 0),
        Note(b"VMCOREINFO", 0, b"last", 0),
        Note(b"VMCOREINFO", 1, b"another type", 0),
        Note(b"CORE", 0, b"another owner", 0),
    )
    assert find_vmcoreinfo(notes) == b"last"
    assert find_vmcoreinfo(notes[2:]) is None


def test_what_a_note_is_its_owner_and_its_type_say_together() -> None:
    names = (b"CORE", b"VMCOREINFO", b"GNU", b"Xen", b"Linux")
    notes = [Note(name, number, b"", 0) for name in names for number in range(4)]
    assert [(n.name, n.note_type) for n in notes if n.is_prstatus] == [(b"CORE", 1)]
    assert [(n.name, n.note_type) for n in notes if n.is_vmcoreinfo] == [(b"VMCOREINFO", 0)]
    assert [(n.name, n.note_type) for n in notes if n.is_build_id] == [(b"GNU", 3)]


@pytest.mark.parametrize(("order", "bits"), [("<", 64), (">", 64), ("<", 32), (">", 32)])
def test_pyelftools_reads_the_notes_that_are_packed(order: ByteOrder, bits: int) -> None:
    packed = pack_note(b"CORE", 1, b"12345", order) + pack_note(b"VMCOREINFO", 0, b"A=1\n", order)
    flavour = dead_machines.Flavour(bits=bits, order=order)
    head = dead_machines.pack_elf([dead_machines.note_phdr(0x1000, len(packed))], flavour)
    segment = ELFFile(io.BytesIO(head.ljust(0x1000, b"\0") + packed)).get_segment(0)
    assert isinstance(segment, NoteSegment)
    notes = [(n["n_name"], n["n_descsz"], n["n_descdata"]) for n in segment.iter_notes()]
    assert notes == [("CORE", 5, b"12345"), ("VMCOREINFO", 4, b"A=1\n")]
