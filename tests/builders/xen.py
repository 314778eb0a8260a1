"""Cores of Xen domains, after Xen's docs/misc/dump-core-format.txt."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.builders.dead_machines import X86_64, pack_elf

PAGE = 4096
NONE = (1 << 64) - 1


def pack_xen(pages: Sequence[tuple[int, bytes]], *, paravirtual: bool = False) -> bytes:
    """A core with these pages, by their page frame numbers, in this order."""
    names = [b"", b".shstrtab", b".xen_pages", b".xen_p2m" if paravirtual else b".xen_pfn"]
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
    ]
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", text.index(name + b"\0"), 1, 0, 0, where, size, 0, 0, 0, entry)
        for name, (where, size, entry) in zip(names, places, strict=True)
    )
    told = {"e_phoff": 0, "e_shoff": 64, "e_shentsize": 64, "e_shnum": 4, "e_shstrndx": 1}
    head = pack_elf([], X86_64, **told) + sections
    return head.ljust(PAGE, b"\0") + data + numbers + text
