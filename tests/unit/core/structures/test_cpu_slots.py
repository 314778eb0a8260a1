"""Each CPU's note buffer through crash_notes, in memory written by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from tests.builders.kernels import virtual
from tests.matching import exactly
from vmcorefs.core.structures.crash_notes import find_slots, slot_size
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FaultError, FormatError

NOTES, OFFSETS, CPU_IDS, POSSIBLE = (0xFFFFFFFF82000000 + 0x100000 * n for n in range(4))
SYMBOLS = {
    "crash_notes": NOTES,
    "__per_cpu_offset": OFFSETS,
    "nr_cpu_ids": CPU_IDS,
    "__cpu_possible_mask": POSSIBLE,
}
PERCPU = 0x1F000


def table(symbols: dict[str, int]) -> SymbolTable:
    addresses = np.array(list(symbols.values()), dtype=np.uint64)
    return SymbolTable(addresses, "D" * len(symbols), tuple(symbols))


def slots(
    offsets: Sequence[int],
    mask: Sequence[int],
    count: int,
    symbols: dict[str, int] = SYMBOLS,
    notes: int = PERCPU,
) -> tuple[int, ...]:
    """``mask``: its words."""
    memory = virtual(
        {
            NOTES: struct.pack("<Q", notes),
            OFFSETS: struct.pack(f"<{len(offsets)}Q", *offsets),
            CPU_IDS: struct.pack("<I", count),
            POSSIBLE: struct.pack(f"<{len(mask)}Q", *mask),
        }
    )
    return find_slots(memory, table(symbols))


@pytest.mark.parametrize(("machine", "size"), [(62, 368), (183, 424), (243, 408), (21, 536)])
def test_the_size_of_a_buffer(machine: int, size: int) -> None:
    """Header, ``CORE`` padded, struct elf_prstatus; and the header of the empty note behind it."""
    assert slot_size(machine) == size


def test_the_size_of_a_buffer_of_an_unknown_machine() -> None:
    assert slot_size(258) is None  # loongarch


def test_each_possible_cpu_has_one_and_the_others_have_none() -> None:
    offsets = [0xFFFF88803EC00000 + 0x80000 * cpu for cpu in range(4)]
    assert slots(offsets, [0b1011], 4) == (
        0xFFFF88803EC1F000,
        0xFFFF88803EC9F000,
        0xFFFF88803ED9F000,
    )


def test_cpus_of_the_second_word() -> None:
    offsets = [0] * 64 + [0x100]
    assert slots(offsets, [0, 1], 65) == (PERCPU + 0x100,)


def test_bits_above_nr_cpu_ids_are_no_cpus() -> None:
    assert slots([0x100], [2**64 - 1], 1) == (PERCPU + 0x100,)


def test_an_offset_that_wraps_around() -> None:
    assert slots([2**64 - PERCPU + 0x40], [1], 1) == (0x40,)


def test_big_endian() -> None:
    blocks = {
        NOTES: struct.pack(">Q", PERCPU),
        OFFSETS: struct.pack(">9Q", *(16 * cpu for cpu in range(9))),
        CPU_IDS: struct.pack(">I", 9),
        POSSIBLE: struct.pack(">Q", 0x101),
    }
    memory: KernelMemory = replace(virtual(dict(blocks)), byte_order=">")
    assert find_slots(memory, table(SYMBOLS)) == (PERCPU, PERCPU + 128)


def test_without_smp_a_per_cpu_variable_is_a_variable() -> None:
    assert slots([], [], 0, {"crash_notes": NOTES}, 0xFFFF888001234000) == (0xFFFF888001234000,)


def test_a_constant_number_of_cpus_has_no_symbol() -> None:
    symbols = {name: at for name, at in SYMBOLS.items() if name != "nr_cpu_ids"}
    assert slots([0x100, 0x200], [0b11], 0, symbols) == (PERCPU + 0x100, PERCPU + 0x200)


@pytest.mark.parametrize("count", [0, 8193, 2**32 - 1])
def test_an_absurd_number_of_cpus(count: int) -> None:
    with pytest.raises(FormatError, match=exactly(f"nr_cpu_ids is {count}, expected 1 to 8192")):
        slots([0], [1], count)


def test_most_cpus_that_there_can_be() -> None:
    assert len(slots([0x100] * 8192, [2**64 - 1] * 128, 8192)) == 8192


def test_what_is_missing_is_named() -> None:
    with pytest.raises(FormatError, match=exactly("kallsyms: no crash_notes")):
        slots([0], [1], 1, {})
    lacking = {name: at for name, at in SYMBOLS.items() if name != "__cpu_possible_mask"}
    with pytest.raises(FormatError, match=exactly("kallsyms: no __cpu_possible_mask")):
        slots([0], [1], 1, lacking)
    with pytest.raises(FormatError, match=exactly("crash_notes is NULL")):
        slots([0], [1], 1, notes=0)
    with pytest.raises(FormatError, match=exactly("__cpu_possible_mask is empty")):
        slots([0], [0], 1)
    with pytest.raises(FaultError):
        slots([0], [0b10], 2)  # one offset, but CPU 1
