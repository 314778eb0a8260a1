"""gdb's threads: the CPUs whose registers the vmcore has, and the tasks that no CPU was running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

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
from vmcorefs.kernel.cpu_slots import has_saved_registers, slots_of_cpus
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.kernel.tasks import KernelTasks

PID_MAX_LIMIT = 1 << 22
"""No process has this id or one above it (include/linux/threads.h)."""

_I386_PID_OFFSET = 24


class CpuThread(msgspec.Struct, frozen=True):
    """A CPU that has saved its registers.

    Attributes:
        slot: Its notes.
        pid: Its ``pr_pid`` in the notes: of the task that was running, or QEMU's number of the CPU.
        lwp: Its ``pr_pid`` in kcore.
        place: Offset of that in the merged notes, in bytes.
        number: The CPU's, if it is known.
        task: What was running, if it is known.
    """

    slot: NoteSlot
    pid: int
    lwp: int
    place: int
    number: int | None = None
    task: Task | None = None


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
    cpus = tuple(_find_running(kernel, cpus, image.notes.cpu_slots, found.tasks))
    running = {cpu.task.address for cpu in cpus if cpu.task is not None}
    left = [task for task in found.tasks if task.address not in running]
    sleeping = [task for task in left if not task.is_on_cpu]
    others = set(_iter_other_ids(image.notes.slots, header))
    tasks, lost = _switched_out(found, sleeping, cpus, others)
    return Threads(
        cpus,
        tasks,
        tuple(task for task in left if task.is_on_cpu),
        dict(_iter_names(cpus, tasks)),
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


def _iter_other_ids(slots: Iterable[NoteSlot], header: ElfHeader) -> Iterator[int]:
    """What gdb may take for ``pr_pid`` of notes that are not of the kernel's form.

    QEMU writes those of a CPU that is not in 64-bit mode as i386 has them: it is at 24 then.
    """
    for note in (note for slot in slots for note in slot.notes):
        if note.is_prstatus and decode_prstatus(note, header.e_machine, header.byte_order) is None:
            for offset in (_I386_PID_OFFSET, PID_OFFSET):
                word = note.desc[offset : offset + 4]
                yield int.from_bytes(word, "little" if header.byte_order == "<" else "big")


def _find_running(
    kernel: Kernel, cpus: Sequence[CpuThread], slots: Sequence[NoteSlot], tasks: Sequence[Task]
) -> Iterator[CpuThread]:
    """The CPUs, with what each was running."""
    try:
        numbers = {slot.start: cpu for cpu, slot in slots_of_cpus(kernel, slots).items()}
        is_own = has_saved_registers(kernel)
    except VmcorefsError:
        numbers, is_own = {}, True
    by_pid = {task.pid: task for task in tasks if task.pid}
    idle = {task.cpu: task for task in tasks if not task.pid}
    current = {task.cpu: task for task in tasks if task.is_on_cpu}
    taken: set[int] = set()
    for cpu in cpus:
        number, lwp = numbers.get(cpu.slot.start), cpu.lwp
        if is_own:
            task = by_pid.get(cpu.pid) if cpu.pid else idle.get(number)
        else:  # pr_pid is the CPU's number, and one more (target/i386/arch_dump.c)
            task = current.get(number)
            lwp = task.pid if task is not None and task.pid else PID_MAX_LIMIT + cpu.pid
        while lwp in taken:
            lwp += PID_MAX_LIMIT
        taken.add(lwp)
        yield replace(cpu, lwp=lwp, number=number, task=task)


def _switched_out(
    found: KernelTasks, tasks: Sequence[Task], cpus: Sequence[CpuThread], others: set[int]
) -> tuple[tuple[TaskThread, ...], tuple[str, ...]]:
    threads: list[TaskThread] = []
    lost: list[str] = []
    taken = {cpu.lwp for cpu in cpus} | others
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
    cpus: Sequence[CpuThread], tasks: Sequence[TaskThread]
) -> Iterator[tuple[int, str]]:
    for cpu in cpus:
        name = cpu.task.name if cpu.task is not None else ""
        yield cpu.lwp, f"{name} on CPU {cpu.number}" if cpu.number is not None else name
    for one in tasks:
        yield one.lwp, one.task.name
