"""Cores of Xen domains, after Xen's docs/misc/dump-core-format.txt."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from tests.builders.dead_machines import X86_64, pack_elf

PAGE = 4096
NONE = (1 << 64) - 1


GENERAL = [
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11"),
    *("r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
]


def pack_context(registers: Mapping[str, int]) -> bytes:
    """A CPU's vcpu_guest_context, after Xen's public/arch-x86/xen.h and xen-x86_64.h."""

    def of(*names: str) -> list[int]:
        return [registers.get(name, 0) for name in names]

    user = struct.pack("<15QII", *of(*GENERAL), 7, 7)
    user += struct.pack("<QHHB3xQQH6x", *of("rip", "cs"), 0, 1, *of("eflags", "rsp", "ss"))
    user += struct.pack("<H6xH6xH6xH6x", *of("es", "ds", "fs", "gs"))
    in_user_mode = registers.get("cs", 0) & 3
    gs = registers.get("gs_base", 0)
    bases = struct.pack("<QQQ", *of("fs_base"), *((7, gs) if in_user_mode else (gs, 7)))
    traps = b"\x55" * (256 * 16)
    return bytes(512) + bytes(8) + user + traps + bytes(5168 - 520 - 200 - 4096 - 24) + bases


def pack_xen(
    pages: Sequence[tuple[int, bytes]],
    *,
    paravirtual: bool = False,
    cpus: Sequence[Mapping[str, int]] = (),
) -> bytes:
    """A core with these pages, by their page frame numbers, in this order."""
    names = [b"", b".shstrtab", b".xen_pages", b".xen_p2m" if paravirtual else b".xen_pfn"]
    names.append(b".xen_prstatus")
    states = b"".join(map(pack_context, cpus))
    text = b"\0".join(names) + b"\0"
    numbers = b"".join(
        struct.pack("<QQ", pfn, pfn ^ 99) if paravirtual else struct.pack("<Q", pfn)
        for pfn, _ in pages
    )
    data = b"".join(page for _, page in pages)
    at = PAGE + len(data)
    places = [
        (0, 0, 0),
        (at + len(numbers), len(text), 0),
        (PAGE, len(data), PAGE),
        (at, len(numbers), 16 if paravirtual else 8),
        (at + len(numbers) + len(text), len(states), 5168),
    ]
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", text.index(name + b"\0"), 1, 0, 0, where, size, 0, 0, 0, entry)
        for name, (where, size, entry) in zip(names, places, strict=True)
    )
    told = {"e_phoff": 0, "e_shoff": 64, "e_shentsize": 64, "e_shnum": 5, "e_shstrndx": 1}
    head = pack_elf([], X86_64, **told) + sections
    return head.ljust(PAGE, b"\0") + data + numbers + text + states
