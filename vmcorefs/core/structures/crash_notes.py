"""Where each CPU keeps its crash notes, according to the kernel's own ``crash_notes`` pointer.

An elfcorehdr lists these buffers. Without one they are found as the kernel would list them
(kernel/crash_core.c, ``crash_prepare_elf64_headers``): one for each possible CPU, at the CPU's copy
of a per-CPU allocation.
"""

from __future__ import annotations

from vmcorefs.core.elf.registers import REGISTER_SETS
from vmcorefs.core.space.units import align_up
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.per_cpu import cpu_offsets
from vmcorefs.errors import FormatError

_HEADER_SIZE = 12
_ADDRESSES = 1 << 64


def slot_size(machine: int) -> int | None:
    """``sizeof(note_buf_t)``: a note of NT_PRSTATUS named CORE, and the empty one after it.

    None where the machine's ``struct elf_prstatus`` is not known (include/linux/vmcore_info.h,
    ``CRASH_CORE_NOTE_BYTES``).
    """
    layout = REGISTER_SETS.get(machine)
    if layout is None:
        return None
    return 2 * _HEADER_SIZE + align_up(len(b"CORE\0"), 4) + align_up(layout.size, 4)


def find_slots(memory: KernelMemory, symbols: SymbolTable) -> tuple[int, ...]:
    """The virtual address of each possible CPU's note buffer; the errors of ``slots_by_cpu``."""
    return tuple(slots_by_cpu(memory, symbols).values())


def slots_by_cpu(memory: KernelMemory, symbols: SymbolTable) -> dict[int, int]:
    """The virtual address of each possible CPU's note buffer, by CPU number, in order.

    Raises:
        FormatError: if a symbol is missing, or its value cannot be true.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    buffers = memory.pointer(symbols.require("crash_notes"))
    if not buffers:
        raise FormatError("crash_notes is NULL")
    offsets = cpu_offsets(memory, symbols)
    return {cpu: (buffers + offset) % _ADDRESSES for cpu, offset in offsets.items()}
