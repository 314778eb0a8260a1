"""The registers of a task that no CPU runs, as the switch to another task has left them.

Only what a function must preserve is kept: the others' values are nowhere. The program counter is
where the task goes on, in ``__schedule`` or, if it has never run, ``ret_from_fork``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from vmcorefs.core.elf.elf import EM_AARCH64, EM_PPC64, EM_RISCV, EM_X86_64
from vmcorefs.core.elf.machines import EM_S390
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FormatError

_MAX_SIZE = 1 << 12
_ADDRESSES = 1 << 64


class SwitchFrame(msgspec.Struct, frozen=True):
    """Where an architecture keeps them.

    Attributes:
        name: The structure that has them.
        path: From ``struct task_struct`` to it, or to the stack pointer that leads to it: each
            structure and its member.
        registers: Its members, or ``NAME[N]`` of an array, and which registers they are, by the
            names of ``core.elf.registers``.
        on_stack: The register that is the stack pointer and points behind the structure, if that
            is on the task's stack.
        is_pointed_to: The path leads to a pointer to the structure, which is on the task's stack.
        behind: Bytes from where a pointer leads to the structure.
    """

    name: str
    path: tuple[tuple[str, str], ...]
    registers: Mapping[str, str]
    on_stack: str | None = None
    is_pointed_to: bool = False
    behind: int = 0

    @property
    def structs(self) -> tuple[str, ...]:
        """The structures that are needed."""
        return (self.name, *(name for name, _ in self.path))

    def read(
        self, memory: KernelMemory, structs: Mapping[str, Struct], task: int
    ) -> dict[str, int]:
        """The registers of the task whose ``struct task_struct`` is at an address, by name.

        Raises:
            FormatError: if BTF lacks a member.
            VmcorefsError: whatever ``memory.read`` raises.
        """
        frame = structs[self.name]
        word = memory.word_size
        if frame.size > _MAX_SIZE:
            raise FormatError(f"BTF: struct {self.name} of {frame.size} bytes")
        at = task + sum(structs[name].offset(member) for name, member in self.path)
        if self.is_pointed_to or self.on_stack is not None:
            at = memory.pointer(at) + self.behind
        data = memory.read(at, frame.size)
        found = {
            register: memory.decode(data[place : place + word])
            for member, register in self.registers.items()
            for place in (_place(frame, member, word),)
        }
        if self.on_stack is not None:
            found[self.on_stack] = (at + frame.size) % _ADDRESSES
        return found


def _place(frame: Struct, member: str, word: int) -> int:
    name, _, number = member.removesuffix("]").partition("[")
    return frame.offset(name) + word * int(number or 0)


SWITCH_FRAMES: Final[Mapping[int, SwitchFrame]] = {
    # arch/x86/entry/entry_64.S, __switch_to_asm; arch/x86/include/asm/switch_to.h
    EM_X86_64: SwitchFrame(
        "inactive_task_frame",
        (("task_struct", "thread"), ("thread_struct", "sp")),
        {
            **{f"r{number}": f"r{number}" for number in range(12, 16)},
            "bx": "rbx",
            "bp": "rbp",
            "ret_addr": "rip",
        },
        on_stack="rsp",
    ),
    # arch/arm64/kernel/entry.S, cpu_switch_to; arch/arm64/include/asm/processor.h
    EM_AARCH64: SwitchFrame(
        "cpu_context",
        (("task_struct", "thread"), ("thread_struct", "cpu_context")),
        {
            **{f"x{number}": f"x{number}" for number in range(19, 29)},
            "fp": "x29",
            "sp": "sp",
            "pc": "pc",
        },
    ),
    # arch/riscv/kernel/entry.S, __switch_to; arch/riscv/include/asm/processor.h
    EM_RISCV: SwitchFrame(
        "thread_struct",
        (("task_struct", "thread"),),
        {"ra": "pc", "sp": "sp", **{f"s[{number}]": f"s{number}" for number in range(12)}},
    ),
    # arch/powerpc/kernel/switch.S, _switch; arch/powerpc/include/asm/ptrace.h,
    # STACK_SWITCH_FRAME_REGS of 6.2 and later
    EM_PPC64: SwitchFrame(
        "pt_regs",
        (("task_struct", "thread"), ("thread_struct", "ksp")),
        {**{f"gpr[{number}]": f"gpr{number}" for number in range(14, 32)}, "nip": "nip"},
        on_stack="gpr1",
        behind=48,
    ),
    # arch/s390/kernel/entry.S, __switch_to_asm; arch/s390/include/asm/stacktrace.h
    EM_S390: SwitchFrame(
        "stack_frame",
        (("task_struct", "thread"), ("thread_struct", "ksp")),
        {
            **{f"gprs[{number - 6}]": f"r{number}" for number in range(6, 14)},
            "gprs[8]": "pswa",  # r14, where __switch_to returns to
            "gprs[9]": "r15",
        },
        is_pointed_to=True,
    ),
}
"""``EM_*`` to its frame."""
