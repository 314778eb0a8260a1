"""Whose notes are those of the CPU that panicked: kernel memory by hand."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.builders.dead_machines import prstatus_note
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.tree.symbols import KernelSymbols

PERCPU = 0x1000
SYMBOLS = {
    "panic_cpu": 0x00,
    "nr_cpu_ids": 0x08,
    "crash_notes": 0x10,
    "__cpu_possible_mask": 0x18,
    "__per_cpu_offset": 0x20,
}
NOTES = [prstatus_note(100 + cpu, 0x1000 + cpu, 0x2000 + cpu) for cpu in range(3)]


def panicked(cpu: int, saved: dict[int, bytes], slots: list[bytes]) -> bytes | None:
    """The notes that are taken for those of the CPU that panicked.

    Args:
        cpu: What ``panic_cpu`` is.
        saved: What CPUs have in their buffers.
        slots: The notes of the dump.
    """
    memory = bytearray(0x4000)
    struct.pack_into("<iIIIQQ3Q", memory, 0, cpu, 0, 3, 0, PERCPU, 0b111, 0, 0x1000, 0x2000)
    for number, data in saved.items():
        at = PERCPU + number * 0x1000
        memory[at : at + len(data)] = data
    table = SymbolTable(
        np.array(list(SYMBOLS.values()), dtype=np.uint64), "D" * len(SYMBOLS), tuple(SYMBOLS)
    )
    image = KernelMemory(lambda at, size: bytes(memory[at : at + size]), "<", 8)
    kernel: Any = SimpleNamespace(image=image, symbols=table)
    symbols = KernelSymbols(kernel, tuple(NoteSlot(0, data, (), len(data)) for data in slots))
    slot = symbols.panicked()
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
