"""Kernel memory by hand that says where the CPUs keep their notes."""

from __future__ import annotations

import struct

import numpy as np

from tests.builders.dead_machines import prstatus_note
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory

PERCPU = 0x1000
SYMBOLS = {
    "panic_cpu": 0x00,
    "nr_cpu_ids": 0x08,
    "crash_notes": 0x10,
    "__cpu_possible_mask": 0x18,
    "__per_cpu_offset": 0x20,
}
NOTES = [prstatus_note(100 + cpu, 0x1000 + cpu, 0x2000 + cpu) for cpu in range(3)]


def three_cpus(cpu: int, saved: dict[int, bytes]) -> tuple[KernelMemory, SymbolTable]:
    """The image and the symbols of a kernel.

    Args:
        cpu: What ``panic_cpu`` is.
        saved: What CPUs have in their buffers.
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
    return image, table
