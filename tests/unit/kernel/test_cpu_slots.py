"""Which CPU a note slot is of, and whose are those of the panic: kernel memory by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders.cpus import NOTES, three_cpus
from vmcorefs.kernel.cpu_slots import panicked_slot, slots_of_cpus
from vmcorefs.kernel.notes import NoteSlot


def kernel_with(cpu: int, saved: dict[int, bytes]) -> Any:
    image, symbols = three_cpus(cpu, saved)
    return SimpleNamespace(image=image, symbols=symbols)


def slots_of(notes: list[bytes]) -> list[NoteSlot]:
    return [NoteSlot(0, data, (), len(data)) for data in notes]


def panicked(cpu: int, saved: dict[int, bytes], slots: list[bytes]) -> bytes | None:
    """The notes that are taken for those of the CPU that panicked; ``slots`` are the dump's."""
    slot = panicked_slot(kernel_with(cpu, saved), slots_of(slots))
    return None if slot is None else bytes(slot.data)


@pytest.mark.parametrize("cpu", [0, 1, 2])
def test_every_cpu_has_notes(cpu: int) -> None:
    assert panicked(cpu, dict(enumerate(NOTES)), NOTES) == NOTES[cpu]


def test_a_dump_lacks_the_cpu_in_front() -> None:
    saved = {1: NOTES[1], 2: NOTES[2]}
    assert panicked(1, saved, [NOTES[1], NOTES[2]]) == NOTES[1]
    assert panicked(2, saved, [NOTES[1], NOTES[2]]) == NOTES[2]


def test_a_cpu_that_saved_nothing_is_not_taken_for_another() -> None:
    saved = {1: NOTES[1], 2: NOTES[2]}
    assert panicked(0, saved, [NOTES[1], NOTES[2]]) is None
    assert panicked(0, saved, [b"", NOTES[1], NOTES[2]]) is None


def test_the_notes_of_a_hypervisor_are_of_every_cpu() -> None:
    assert panicked(1, {}, NOTES) == NOTES[1]
    assert panicked(2, {}, NOTES[:2]) is None


def test_no_cpu_panicked() -> None:
    assert panicked(-1, dict(enumerate(NOTES)), NOTES) is None
    assert panicked(-1, {}, NOTES) is None


def test_each_cpu_has_the_slot_with_its_own_notes() -> None:
    slots = slots_of([NOTES[2], b"", NOTES[0]])
    found = slots_of_cpus(kernel_with(0, {0: NOTES[0], 2: NOTES[2]}), slots)
    assert found == {0: slots[2], 2: slots[0]}


def test_notes_of_several_sizes() -> None:
    short, long = NOTES[0], NOTES[1] + NOTES[2]
    slots = slots_of([short, long])
    assert slots_of_cpus(kernel_with(0, {0: short, 1: long}), slots) == {0: slots[0], 1: slots[1]}
