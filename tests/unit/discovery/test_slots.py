"""Cutting merged notes back into the note buffers of CPUs."""

from __future__ import annotations

from tests.builders.dead_machines import pack_note, prstatus_note, vmcoreinfo_note, vmcoreinfo_text
from tests.steps import count_steps
from vmcorefs.core.elf.notes import walk_notes
from vmcorefs.discovery.dump import cut_into_slots

INFO = vmcoreinfo_note(vmcoreinfo_text())


def test_each_slot_has_its_own_notes_counted_from_its_start() -> None:
    vector = pack_note(b"LINUX", 0x300, b"vector")
    parts = [prstatus_note(1, 1, 1) + vector, prstatus_note(2, 2, 2), INFO]
    data = b"".join(parts)
    walk = walk_notes(data, "<")
    slots = list(cut_into_slots(data, 0x1000, walk.notes, walk.size))
    assert [slot.data for slot in slots] == parts
    assert [slot.start for slot in slots] == [0x1000, 0x1000 + len(parts[0]), 0x1000 + 356 * 2 + 28]
    assert [[note.offset for note in slot.notes] for slot in slots] == [[0, 356], [0], [0]]
    assert [slot.may_be_cpu for slot in slots] == [True, True, False]


def test_without_notes_there_are_no_slots() -> None:
    assert list(cut_into_slots(b"", 0, (), 0)) == []


def test_four_times_the_notes_take_four_times_the_steps() -> None:
    def steps(count: int) -> int:
        data = prstatus_note(1, 2, 3) * count + INFO
        walk = walk_notes(data, "<")
        return count_steps(lambda: list(cut_into_slots(data, 0, walk.notes, walk.size)))

    assert steps(400) < 5 * steps(100)
