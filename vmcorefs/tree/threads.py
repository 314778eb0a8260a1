"""gdb's threads: the CPUs whose registers the vmcore has, and the tasks that no CPU was running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from vmcorefs.core.elf.elf import ElfHeader
from vmcorefs.core.elf.notes import NT_PRSTATUS, ByteOrder, pack_note
from vmcorefs.core.elf.registers import (
    PID_OFFSET,
    REGISTER_SETS,
    decode_prstatus,
    encode_prstatus,
)
from vmcorefs.core.structures.tasks import Task
from vmcorefs.errors import VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.cpu_slots import slots_of_cpus
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.kernel.tasks import KernelTasks

PID_MAX_LIMIT = 1 << 22
"""No process has this id or one above it (include/linux/threads.h)."""


class CpuThread(msgspec.Struct, frozen=True):
    """A CPU that has saved its registers.

    Attributes:
        slot: Its notes.
        pid: Of the task that was running, as its note says.
        lwp: Its ``pr_pid`` in kcore.
        place: Offset of that in the merged notes, in bytes.
    """

    slot: NoteSlot
    pid: int
    lwp: int
    place: int


class TaskThread(msgspec.Struct, frozen=True):
    """A task that no CPU was running.

    Attributes:
        task: The task.
        lwp: Its ``pr_pid`` in kcore.
        registers: What it was switched out with, by name.
    """

    task: Task
    lwp: int
    registers: dict[str, int]


class Threads(msgspec.Struct, frozen=True, eq=False):
    """The threads of a kcore, in gdb's order.

    gdb makes a thread of each note and tells them apart by ``pr_pid``. That is 0 for every idle
    CPU: each would take the place of the one before it, and gdb gives up if that was the first. So
    an id that another one has is replaced.

    Attributes:
        cpus: The CPUs, in the order of their notes.
        tasks: The tasks.
        silent: The tasks that a CPU was running which saved no registers: they have no thread.
        names: What each is called, by ``lwp``.
        warnings: Which threads are missing, and why, a line each.
    """

    cpus: tuple[CpuThread, ...]
    tasks: tuple[TaskThread, ...]
    silent: tuple[Task, ...]
    names: dict[int, str]
    warnings: tuple[str, ...]

    def pack_notes(self, machine: int, byte_order: ByteOrder) -> bytes:
        """The notes of the tasks, one after another."""
        descs = (
            encode_prstatus(thread.lwp, thread.registers, machine, byte_order)
            for thread in self.tasks
        )
        return b"".join(pack_note(b"CORE", NT_PRSTATUS, desc, byte_order) for desc in descs)


def list_threads(image: MemoryImage) -> Threads:
    """List the threads of a dead machine; without symbols or BTF, of its CPUs alone."""
    header = image.plan.elfcorehdr.header
    cpus = tuple(_iter_cpus(image.notes.slots, header))
    kernel = image.kernel
    if kernel is None or not kernel.names_symbols or kernel.machine not in REGISTER_SETS:
        return Threads(cpus, (), (), {}, ())
    try:
        found = kernel.tasks
    except VmcorefsError as error:
        return Threads(cpus, (), (), {}, (f"no stacks of tasks: {error}",))
    running = {cpu.pid for cpu in cpus if cpu.pid}
    numbers = _numbers_of(kernel, image.notes.cpu_slots) if cpus else {}
    with_notes = {numbers.get(cpu.slot.start) for cpu in cpus if not cpu.pid}
    left = [task for task in found.tasks if task.pid not in running]
    silent = [t for t in left if t.is_on_cpu and (t.pid or t.cpu not in with_notes)]
    tasks, lost = _switched_out(found, [task for task in left if not task.is_on_cpu], cpus)
    return Threads(
        cpus,
        tasks,
        tuple(silent),
        dict(_iter_names(cpus, tasks, found.tasks, numbers)),
        (*found.warnings, *lost),
    )


def _iter_cpus(slots: Iterable[NoteSlot], header: ElfHeader) -> Iterator[CpuThread]:
    seen, start = {0}, 0
    for number, slot in enumerate(slots):
        for note in slot.notes:
            state = decode_prstatus(note, header.e_machine, header.byte_order)
            if state is not None:
                lwp = PID_MAX_LIMIT + number if state.pid in seen else state.pid
                seen.add(state.pid)
                yield CpuThread(slot, state.pid, lwp, start + note.desc_offset + PID_OFFSET)
        start += slot.room


def _numbers_of(kernel: Kernel, slots: Sequence[NoteSlot]) -> dict[int, int]:
    """The CPU's number of each slot, by the slot's start."""
    try:
        return {slot.start: cpu for cpu, slot in slots_of_cpus(kernel, slots).items()}
    except VmcorefsError:
        return {}


def _switched_out(
    found: KernelTasks, tasks: Sequence[Task], cpus: Sequence[CpuThread]
) -> tuple[tuple[TaskThread, ...], tuple[str, ...]]:
    threads: list[TaskThread] = []
    lost: list[str] = []
    taken = {cpu.lwp for cpu in cpus}
    other = PID_MAX_LIMIT + len(cpus)
    for task in tasks:
        if not task.stack:
            continue  # it has ended, and its stack is another's now
        try:
            registers = found.registers(task)
        except VmcorefsError as error:
            lost.append(f"pid {task.pid}: {error}")
            continue
        lwp = task.pid
        while lwp in taken or lwp <= 0:
            lwp, other = other, other + 1
        taken.add(lwp)
        threads.append(TaskThread(task, lwp, registers))
    why = f"no stacks of {len(lost)} tasks, first {lost[0]}" if lost else ""
    return tuple(threads), (why,) if why else ()


def _iter_names(
    cpus: Sequence[CpuThread],
    tasks: Sequence[TaskThread],
    known: Sequence[Task],
    numbers: dict[int, int],
) -> Iterator[tuple[int, str]]:
    by_pid = {task.pid: task for task in known if task.pid}
    idle = {task.cpu: task for task in known if not task.pid}
    for thread in cpus:
        number = numbers.get(thread.slot.start)
        task = by_pid.get(thread.pid) if thread.pid else idle.get(number)
        name = task.name if task is not None else ""
        yield thread.lwp, f"{name} on CPU {number}" if number is not None else name
    for one in tasks:
        yield one.lwp, one.task.name
