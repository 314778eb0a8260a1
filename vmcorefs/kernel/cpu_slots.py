"""Which CPU a note slot is of, and which CPU panicked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from vmcorefs.core.structures.crash_notes import slots_by_cpu
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.notes import NoteSlot

if TYPE_CHECKING:
    from vmcorefs.kernel.kernel import Kernel

_NOTE_HEADER_SIZE = 12
_PANIC_CPU_NONE = 2**32 - 1  # PANIC_CPU_INVALID (include/linux/panic.h)


def has_saved_registers(kernel: Kernel) -> bool:
    """Whether a CPU has saved its registers itself; otherwise notes of CPUs are a hypervisor's.

    Raises:
        VmcorefsError: if it cannot be read where the buffers are.
    """
    image, symbols = kernel.image, kernel.symbols
    if symbols.lookup("crash_notes") is None and symbols.lookup("init_task") is not None:
        return False  # it has symbols of variables, but was built without kexec
    buffers = slots_by_cpu(image, symbols).values()
    return any(any(image.read(at, _NOTE_HEADER_SIZE)) for at in buffers)


def slots_of_cpus(kernel: Kernel, slots: Sequence[NoteSlot]) -> dict[int, NoteSlot]:
    """The note slot of each CPU that has one, by the CPU's number.

    A dump has no slot of a CPU that saved nothing, so a slot is found by what the CPU's own buffer
    holds. If no CPU has saved anything, the notes are a hypervisor's, of every CPU.

    Raises:
        VmcorefsError: if it cannot be read where the buffers are.
    """
    if not has_saved_registers(kernel):
        return dict(enumerate(slots))
    image = kernel.image
    buffers = slots_by_cpu(image, kernel.symbols)
    by_notes = {slot.data[: slot.size]: slot for slot in slots if slot.size}
    sizes = sorted({len(notes) for notes in by_notes}, reverse=True)
    found = {}
    for cpu, buffer in buffers.items():
        with suppress(VmcorefsError):
            notes = (image.read(buffer, size) for size in sizes)
            slot = next((by_notes[one] for one in notes if one in by_notes), None)
            if slot is not None:
                found[cpu] = slot
    return found


def panicked_slot(kernel: Kernel, slots: Sequence[NoteSlot]) -> NoteSlot | None:
    """The note slot of the CPU that panicked: kernel/panic.c keeps its number.

    Raises:
        VmcorefsError: if that cannot be read.
    """
    vaddr = kernel.symbols.lookup("panic_cpu")
    cpu = kernel.image.integer(vaddr, 4) if vaddr is not None else _PANIC_CPU_NONE
    return slots_of_cpus(kernel, slots).get(cpu)
