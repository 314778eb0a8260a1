"""Tasks and their stacks."""

from __future__ import annotations

import struct
from typing import Final

import drgn
import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf.registers import CpuState
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.schema import Frame, Stack, Task
from vmcorefs.reports.report.walk.absent import ABSENT

MAX_STACK: Final = 1 << 16
_STACK_SIZES: Final = (MAX_STACK, 1 << 15, 1 << 14, 1 << 13)
"""THREAD_SIZE, in bytes: 16 KiB on 64-bit machines, more with KASAN."""
_MAX_FRAMES: Final = 256
_STATES: Final = "RSDTtXZP"
"""By the highest bit that is set of ``__state`` and ``exit_state`` (include/linux/sched.h,
TASK_REPORT; the same since 4.14)."""
_REPORTED: Final = 0x7F
_IDLE: Final = 0x402  # TASK_IDLE: TASK_UNINTERRUPTIBLE | TASK_NOLOAD
_OUTERMOST: Final = frozenset(
    {
        "ret_from_fork",
        "ret_from_fork_asm",
        "secondary_startup_64",
        "secondary_startup_64_no_verify",
        "entry_SYSCALL_64_after_hwframe",
        "entry_SYSCALL_64",
        "entry_SYSCALL_compat_after_hwframe",
        "entry_INT80_compat",
        "rewind_stack_and_make_dead",
        "common_startup_64",
        "el0t_64_sync",
        "el0t_32_sync",
        "el0t_64_irq",
        "__secondary_switched",
        "__primary_switched",
    }
)
"""Where kernel stacks begin (arch/x86/entry/entry_64.S, arch/x86/kernel/head_64.S,
arch/arm64/kernel/entry.S, head.S)."""


def describe_task(task: drgn.Object) -> Task:
    """Who a ``struct task_struct *`` is; the errors are drgn's."""
    return Task(
        pid=int(task.pid),
        tgid=int(task.tgid),
        comm=task.comm.string_().decode("utf-8", "backslashreplace"),
        state=_state(task),
    )


def _state(task: drgn.Object) -> str:
    try:
        state = int(task.member_("__state"))
    except LookupError:  # before 5.14 (2f064a59a11f)
        state = int(task.state)
    if state & _IDLE == _IDLE:
        return "I"
    return _STATES[((state | int(task.exit_state)) & _REPORTED).bit_length()]


def stack_of(names: Names, task: drgn.Object) -> Stack:
    """The stack of a task; the errors are drgn's."""
    return make_stack(names, task.prog_.stack_trace(task))


def stack_at(names: Names, program: drgn.Program, state: CpuState) -> Stack:
    """The stack of a CPU by registers that a hypervisor kept; the errors are drgn's.

    ``struct pt_regs`` begins as NT_PRSTATUS does, and has less (x86-64) or more (arm64) behind it:
    of that, which nobody kept, drgn reads nothing, and so the zeros there are no frame's.
    """
    type_ = program.type("struct pt_regs")
    words = struct.pack(f"<{len(state.registers)}Q", *state.registers.values())
    size = drgn.sizeof(type_)
    value = drgn.Object.from_bytes_(program, type_, words[:size].ljust(size, b"\0"))
    stack = make_stack(names, program.stack_trace(value))
    if any(stack.functions):
        return stack
    return Stack([Frame(state.ip)], "it is in no code of the kernel: user space, or firmware")


def make_stack(names: Names, trace: drgn.StackTrace) -> Stack:
    """A trace of drgn's with the kernel's own names; inlined calls have no frame of their own."""
    frames: list[Frame] = []
    for frame in trace:
        if frame.is_inline or len(frames) == _MAX_FRAMES:
            continue
        try:
            pc = frame.pc
        except LookupError:
            break
        frames.append(names.frame(pc, returned_to=not frame.interrupted))
    # behind the entry from user space drgn may show user space's own registers, which have no name
    while len(frames) > 1 and not frames[-1].function:
        frames.pop()
    return Stack(frames, _why_broken(frames))


def _why_broken(frames: list[Frame]) -> str:
    if not frames:
        return "no registers"
    last = frames[-1].function
    if last.removesuffix(".cold") in _OUTERMOST or last.startswith(("asm_", "xen_")):
        return ""
    return f"nothing is known of the caller of {frames[-1]}"


def try_stack(names: Names, task: drgn.Object) -> Stack:
    """The stack of a task, or an empty one that says why."""
    try:
        return stack_of(names, task)
    except ABSENT as error:
        return Stack([], str(error))


def read_stack(task: drgn.Object) -> npt.NDArray[np.uint64]:
    """The words of a sleeping task's stack, from its lowest address; none if it cannot be read.

    What earlier calls have left below the stack pointer is zeros.
    """
    bottom = int(task.stack)
    for size in _STACK_SIZES:
        try:
            words = np.frombuffer(task.prog_.read(bottom, size), dtype="<u8").copy()
        except drgn.FaultError:  # it is shorter: a guard page follows (CONFIG_VMAP_STACK)
            continue
        words[: max(_stack_pointer(task) - bottom, 0) // words.itemsize] = 0
        return words
    return np.empty(0, dtype="<u8")


def _stack_pointer(task: drgn.Object) -> int:
    try:
        return int(task.thread.sp)  # arch/x86/include/asm/processor.h
    except AttributeError:
        return int(task.thread.cpu_context.sp)  # arch/arm64/include/asm/processor.h
