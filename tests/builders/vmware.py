"""VMware's saved states, after crash's vmware_vmss.c."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

PAGE = 4096
Region = tuple[int, int, int]
"""Physical address, offset in the memory, and bytes."""


def tag(name: str, value: bytes, *indices: int) -> bytes:
    head = struct.pack("<H", len(name) << 8 | len(indices) << 6 | len(value))
    return head + name.encode() + struct.pack(f"<{len(indices)}I", *indices) + value


def block(name: str, data: bytes, *indices: int, padding: int = 0, kind: int = 0x3F) -> bytes:
    head = struct.pack("<H", len(name) << 8 | len(indices) << 6 | kind) + name.encode()
    head += struct.pack(f"<{len(indices)}I", *indices)
    return head + struct.pack("<QQH", len(data), len(data), padding) + bytes(padding) + data


GENERAL = [
    *[*("rax", "rcx", "rdx", "rbx"), *("rbp", "rsp", "rsi", "rdi")],
    *(f"r{n}" for n in range(8, 16)),
]


def pack_cpus(cpus: Sequence[Mapping[str, int]], *, in_blocks: bool = True) -> bytes:
    """The group with the CPUs' registers: sixteen in a block, or each in a tag."""
    out = tag("cpu:numVCPUs", struct.pack("<I", len(cpus))) + block("CR64", bytes(40))
    for number, registers in enumerate(cpus):
        values = [registers.get(name, 0) for name in GENERAL]
        if in_blocks:
            out += block("gpregs", struct.pack("<16Q", *values), number, padding=3)
        else:
            pairs = zip(GENERAL, values, strict=True)
            out += b"".join(tag(name, struct.pack("<Q", one), number) for name, one in pairs)
        out += tag("CR64", bytes(8), number, 3)
        out += tag("rip", struct.pack("<Q", registers.get("rip", 0)), number)
        flags = registers.get("eflags", 0)
        out += tag("eflags", struct.pack("<I", flags & 0xFF), number)
        out += tag("EFLAGS", struct.pack("<I", flags & ~0xFF), number)
    return out + b"\0\0"


def pack_vmss(
    regions: Sequence[Region] = (),
    memory: bytes | None = None,
    magic: int = 0xBED2BED2,
    cpus: bytes = b"\0\0",
) -> bytes:
    """A state with the memory in it, or without.

    Args:
        regions: Of memory.
        memory: What the file has; None if that is in a file .vmem.
        magic: Its first bytes.
        cpus: The group of that name.
    """
    said = tag("align_mask", struct.pack("<I", 0xFFFF))
    said += tag("regionsCount", struct.pack("<I", len(regions)))
    for number, (paddr, offset, size) in enumerate(regions):
        for name, value in (("PageNum", offset), ("PPN", paddr), ("Size", size)):
            said += tag(f"region{name}", struct.pack("<I", value // PAGE), number)
    if memory is not None:
        said += block("Memory", memory, padding=13)
    said += b"\0\0"
    groups = {"cpu": cpus, "memory": said}
    at = 12 + 80 * len(groups)
    head = struct.pack("<3I", magic, 8, len(groups))
    for name, body in groups.items():
        head += struct.pack("<64sQQ", name.encode(), at, len(body))
        at += len(body)
    return head + b"".join(groups.values())
