"""The registers of a CPU from its NT_PRSTATUS note: by name, in the kernel's order.

The descriptor is ``struct elf_prstatus`` (include/linux/elfcore.h): ``pr_pid`` at 32, the registers
at 112, most of them one 64-bit word each, and after them ``pr_fpvalid``, padded to a word. Which
registers, and in what order, is defined by each architecture's ``elf_gregset_t``
(arch/*/include/asm/elf.h), whose structure is named next to each table below. Names are those of
the structure in user space's headers, which an oops, gdb and drgn use too: ``rip``, where
arch/x86/include/asm/user_64.h has ``ip``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import msgspec

from vmcorefs.core.elf.elf import EM_AARCH64, EM_PPC64, EM_RISCV, EM_X86_64
from vmcorefs.core.elf.machines import EM_S390
from vmcorefs.core.elf.notes import ByteOrder, Note

PID_OFFSET = 32
"""Where ``pr_pid``, an int, is in the descriptor, in bytes."""

_REGISTERS = 112
_BEHIND = 8  # pr_fpvalid and its padding


class RegisterSet(msgspec.Struct, frozen=True):
    """An architecture's ``elf_gregset_t``.

    Attributes:
        names: Its registers, in order.
        ip: Which of them is the instruction pointer.
        sp: Which of them is the stack pointer.
        layout: The types of all of them, and bytes that hold nothing, as ``struct`` has them.
    """

    names: tuple[str, ...]
    ip: str
    sp: str
    layout: str

    @property
    def size(self) -> int:
        """``sizeof(struct elf_prstatus)``, the note's ``n_descsz``, in bytes."""
        return _REGISTERS + struct.calcsize(f"={self.layout}") + _BEHIND


def _register_set(names: str, ip: str, sp: str, layout: str = "") -> RegisterSet:
    """``names`` as text, ``x0-30`` for 31 of them; 64-bit words, if no ``layout`` is given."""
    expanded: list[str] = []
    for word in names.split():
        first, dash, last = word.partition("-")
        prefix = first.rstrip("0123456789") if dash else first
        numbers = range(int(first[len(prefix) :]), int(last) + 1) if dash else ("",)
        expanded += [f"{prefix}{number}" for number in numbers]
    return RegisterSet(tuple(expanded), ip, sp, layout or f"{len(expanded)}Q")


REGISTER_SETS = {
    # arch/x86/include/asm/user_64.h, struct user_regs_struct
    EM_X86_64: _register_set(
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
        " fs_base gs_base ds es fs gs",
        ip="rip",
        sp="rsp",
    ),
    # arch/arm64/include/uapi/asm/ptrace.h, struct user_pt_regs
    EM_AARCH64: _register_set("x0-30 sp pc pstate", ip="pc", sp="sp"),
    # arch/riscv/include/uapi/asm/ptrace.h, struct user_regs_struct
    EM_RISCV: _register_set("pc ra sp gp tp t0-2 s0-1 a0-7 s2-11 t3-6", ip="pc", sp="sp"),
    # arch/powerpc/include/uapi/asm/ptrace.h, struct pt_regs; and elf.h there, ELF_NGREG: 48
    EM_PPC64: _register_set(
        "gpr0-31 nip msr orig_gpr3 ctr link xer ccr softe trap dar dsisr result",
        ip="nip",
        sp="gpr1",
        layout="44Q32x",
    ),
    # arch/s390/include/uapi/asm/ptrace.h, s390_regs; the names are gdb's
    EM_S390: _register_set(
        "pswm pswa r0-15 acr0-15 orig_r2", ip="pswa", sp="r15", layout="18Q16IQ"
    ),
}
"""``EM_*`` to its registers; all of these architectures are 64-bit."""


def names_of(machine: int) -> tuple[str, ...]:
    """The names of a machine's registers, in the kernel's order.

    Raises:
        KeyError: if the architecture's layout is not known.
    """
    return REGISTER_SETS[machine].names


class CpuRegisters(msgspec.Struct, frozen=True):
    """Registers that somebody else than the kernel kept, such as a hypervisor.

    Attributes:
        machine: The machine's ``EM_*``, one of ``REGISTER_SETS``.
        cpus: Of each CPU, in the order of their numbers, registers by name.
    """

    machine: int
    cpus: tuple[Mapping[str, int], ...]


class CpuState(msgspec.Struct, frozen=True):
    """The content of one NT_PRSTATUS note.

    Attributes:
        pid: Of the task that was running; 0 for an idle CPU.
        ip: The instruction pointer.
        sp: The stack pointer.
        registers: All registers by name, unsigned, in the kernel's order.
    """

    pid: int
    ip: int
    sp: int
    registers: dict[str, int]

    def format(self) -> bytes:
        """``cpu/N/registers``: ``pid`` in decimal, then one register per line, 16 digits each."""
        lines = [f"{name} {value:#018x}\n" for name, value in self.registers.items()]
        return "".join([f"pid {self.pid}\n", *lines]).encode()


def decode_prstatus(note: Note, machine: int, byte_order: ByteOrder) -> CpuState | None:
    """Decode an NT_PRSTATUS note; None if it is none, or the architecture's layout is not known."""
    known = REGISTER_SETS.get(machine)
    if not note.is_prstatus or known is None or len(note.desc) != known.size:
        return None
    (pid,) = struct.unpack_from(f"{byte_order}i", note.desc, PID_OFFSET)
    words = struct.unpack_from(f"{byte_order}{known.layout}", note.desc, _REGISTERS)
    registers = dict(zip(known.names, words, strict=True))
    return CpuState(pid, registers[known.ip], registers[known.sp], registers)


def encode_prstatus(
    pid: int, registers: Mapping[str, int], machine: int, byte_order: ByteOrder
) -> bytes:
    """The content of an NT_PRSTATUS note; a register that is not given is 0.

    Raises:
        KeyError: if the architecture's layout is not known.
    """
    known = REGISTER_SETS[machine]
    desc = bytearray(known.size)
    struct.pack_into(f"{byte_order}i", desc, PID_OFFSET, pid)
    words = (registers.get(name, 0) for name in known.names)
    struct.pack_into(f"{byte_order}{known.layout}", desc, _REGISTERS, *words)
    return bytes(desc)
