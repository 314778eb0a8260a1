"""VMware's saved states, after crash's vmware_vmss.c."""

from __future__ import annotations

import struct
from collections.abc import Sequence

PAGE = 4096
Region = tuple[int, int, int]
"""Physical address, offset in the memory, and bytes."""


def tag(name: str, value: bytes, *indices: int) -> bytes:
    head = struct.pack("<H", len(name) << 8 | len(indices) << 6 | len(value))
    return head + name.encode() + struct.pack(f"<{len(indices)}I", *indices) + value


def block(name: str, data: bytes, *, padding: int = 0, kind: int = 0x3F) -> bytes:
    head = struct.pack("<H", len(name) << 8 | kind) + name.encode()
    return head + struct.pack("<QQH", len(data), len(data), padding) + bytes(padding) + data


def pack_vmss(
    regions: Sequence[Region] = (), memory: bytes | None = None, magic: int = 0xBED2BED2
) -> bytes:
    """A state with the memory in it, or without.

    Args:
        regions: Of memory.
        memory: What the file has; None if that is in a file .vmem.
        magic: Its first bytes.
    """
    said = tag("align_mask", struct.pack("<I", 0xFFFF))
    said += tag("regionsCount", struct.pack("<I", len(regions)))
    for number, (paddr, offset, size) in enumerate(regions):
        for name, value in (("PageNum", offset), ("PPN", paddr), ("Size", size)):
            said += tag(f"region{name}", struct.pack("<I", value // PAGE), number)
    if memory is not None:
        said += block("Memory", memory, padding=13)
    said += b"\0\0"
    groups = {"cpu": block("CR64", bytes(40)) + b"\0\0", "memory": said}
    at = 12 + 80 * len(groups)
    head = struct.pack("<3I", magic, 8, len(groups))
    for name, body in groups.items():
        head += struct.pack("<64sQQ", name.encode(), at, len(body))
        at += len(body)
    return head + b"".join(groups.values())
