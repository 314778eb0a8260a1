"""Registers of virtual CPUs as Xen and VirtualBox keep them: structures with fixed places.

Xen's ``vcpu_guest_context`` of x86-64 (its xen/include/public/arch-x86/xen.h and xen-x86_64.h);
VirtualBox's ``DBGFCORECPU`` (its include/VBox/vmm/dbgfcorefmt.h), of which what comes first has
been the same in all versions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.notes import Note
from vmcorefs.core.elf.registers import CpuRegisters

XEN_CONTEXT_SIZE: Final = 5168
"""Bytes in a ``vcpu_guest_context`` of x86-64."""

NT_VBOXCPU: Final = 0xB01
_VBOXCPU_NAME: Final = b"VBCPU"

_XEN_GENERAL: Final = struct.Struct("<15Q")
_XEN_GENERAL_NAMES: Final = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10"),
    *("r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
)
_XEN_USER_REGS: Final = 520  # behind fpu_ctxt and flags
# error_code and entry_vector, which are skipped, are between; selectors have 16 of 64 bits
_XEN_OTHERS: Final = struct.Struct("<8xQH6xQQH6xH6xH6xH6xH6x")
_XEN_OTHER_NAMES: Final = ("rip", "cs", "eflags", "rsp", "ss", "es", "ds", "fs", "gs")
_XEN_BASES: Final = struct.Struct("<3Q")  # fs, and gs of the kernel and of a user
_RING: Final = 3

_VBOX_GENERAL: Final = struct.Struct("<18Q")
_VBOX_GENERAL_NAMES: Final = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14"),
    *("r15", "rip", "rsp", "rbp", "eflags"),
)
_VBOX_SEGMENT: Final = struct.Struct("<QIIHHI")  # base, limit, attributes, selector
_VBOX_SEGMENT_NAMES: Final = ("cs", "ds", "es", "fs", "gs", "ss")
_VBOX_SIZE: Final = _VBOX_GENERAL.size + len(_VBOX_SEGMENT_NAMES) * _VBOX_SEGMENT.size


def read_xen_context(data: bytes) -> dict[str, int]:
    """The registers in a ``vcpu_guest_context``, which has ``XEN_CONTEXT_SIZE`` bytes."""
    general = _XEN_GENERAL.unpack_from(data, _XEN_USER_REGS)
    others = _XEN_OTHERS.unpack_from(data, _XEN_USER_REGS + _XEN_GENERAL.size)
    fs, of_kernel, of_user = _XEN_BASES.unpack_from(data, XEN_CONTEXT_SIZE - _XEN_BASES.size)
    found = dict(zip(_XEN_GENERAL_NAMES, general, strict=True))
    found |= zip(_XEN_OTHER_NAMES, others, strict=True)
    return {**found, "fs_base": fs, "gs_base": of_user if found["cs"] & _RING else of_kernel}


def read_virtualbox_notes(notes: Iterable[Note]) -> CpuRegisters | None:
    """The registers in a core's notes, in their order, which is that of the CPUs.

    Returns:
        None if no note has a CPU, or one is too short.
    """
    descs = [
        note.desc for note in notes if note.name == _VBOXCPU_NAME and note.note_type == NT_VBOXCPU
    ]
    if not descs or any(len(desc) < _VBOX_SIZE for desc in descs):
        return None
    return CpuRegisters(EM_X86_64, tuple(map(_read_virtualbox, descs)))


def _read_virtualbox(desc: bytes) -> dict[str, int]:
    found = dict(zip(_VBOX_GENERAL_NAMES, _VBOX_GENERAL.unpack_from(desc), strict=True))
    for number, name in enumerate(_VBOX_SEGMENT_NAMES):
        at = _VBOX_GENERAL.size + number * _VBOX_SEGMENT.size
        base, _limit, _attributes, selector, _, _ = _VBOX_SEGMENT.unpack_from(desc, at)
        found[name] = selector
        if name in ("fs", "gs"):
            found[f"{name}_base"] = base
    return found
