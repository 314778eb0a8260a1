"""VirtualBox's cores, after its DBGFCoreWrite.cpp and include/VBox/vmm/dbgfcorefmt.h."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from tests.builders.dead_machines import PT_LOAD, PT_NOTE, X86_64, Phdr, pack_elf

GENERAL = [
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10"),
    *("r11", "r12", "r13", "r14", "r15", "rip", "rsp", "rbp", "eflags"),
]
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")
_START = 0x4000


def _note(name: bytes, kind: int, desc: bytes) -> bytes:
    """A note whose name's NUL is not counted, and all of which is aligned to 8 bytes."""
    head = struct.pack("<III", len(name), len(desc) + -len(desc) % 8, kind)
    return head + name.ljust(8, b"\0") + desc + bytes(-len(desc) % 8)


def pack_cpu(registers: Mapping[str, int]) -> bytes:
    """A DBGFCORECPU."""
    out = struct.pack("<18Q", *(registers.get(name, 0) for name in GENERAL))
    for name in SEGMENTS:
        base, selector = registers.get(f"{name}_base", 0), registers.get(name, 0)
        out += struct.pack("<QIIHHI", base, 0xFFFFFFFF, 0xA09B, selector, 0, 0)
    return out + b"\x33" * 800


def pack_virtualbox(
    ranges: Sequence[tuple[int, bytes]], cpus: Sequence[Mapping[str, int]] = ()
) -> bytes:
    """A core with ranges of memory, by their physical addresses."""
    described = struct.pack("<6I", 0xC01AC0DE, 0x00010006, 24, 0x70000, 1, len(cpus))
    notes = _note(b"VBCORE", 0xB00, described)
    notes += b"".join(_note(b"VBCPU", 0xB01, pack_cpu(one)) for one in cpus)
    at = 0x1000
    phdrs = [Phdr(PT_NOTE, at, len(notes), p_paddr=0, p_flags=4)]
    offset, data = _START, b""
    for paddr, memory in ranges:
        phdrs.append(Phdr(PT_LOAD, offset, len(memory), p_paddr=paddr, p_flags=4))
        offset += len(memory)
        data += memory
    # the version in e_ident is left 0
    head = pack_elf(phdrs, X86_64, ei_version=0, e_shentsize=64).ljust(at, b"\0") + notes
    return head.ljust(_START, b"\0") + data
