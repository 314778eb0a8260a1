"""Kernel memory in a string of bytes, so that a fuzzer can change all of it.

::

    VMCOREINFO's text, NUL, one byte that says what lies outside, then blocks:
    u64 vaddr, u32 size, that many bytes

Outside of the blocks is nothing if that byte is 0; otherwise any read of up to 64 MiB gives one
less than the byte, repeated: a parser that believes a hostile size gets what it asked for, as from
a large image.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FaultError

LARGEST_READ: Final = 64 << 20
MAX_BYTES: Final = 2 << 30
MAX_READS: Final = 1 << 22
_HEADER = struct.Struct("<QI")


def pack(told: bytes, blocks: Mapping[int, bytes], outside: int = 0) -> bytes:
    """Encode VMCOREINFO's text and the blocks of memory, by virtual address."""
    packed = [_HEADER.pack(vaddr, len(data)) + data for vaddr, data in blocks.items()]
    return told + b"\0" + bytes([outside]) + b"".join(packed)


def prefixed(first: bytes, rest: bytes) -> bytes:
    """Put another string before packed memory."""
    return struct.pack("<I", len(first)) + first + rest


def split(data: bytes) -> tuple[bytes, bytes]:
    """Take apart what ``prefixed`` made and a fuzzer changed."""
    end = 4 + int.from_bytes(data[:4], "little")
    return data[4:end], data[end:]


@dataclass
class _Memory:
    blocks: list[tuple[int, bytes]]
    outside: int
    reads: int = 0
    served: int = 0

    def read(self, vaddr: int, size: int) -> bytes:
        self.reads += 1
        assert size >= 0, size
        self.served += size
        assert self.served <= MAX_BYTES, f"{self.served} bytes read, of memory that has not so many"
        assert self.reads <= MAX_READS, f"{self.reads} reads"
        for start, data in self.blocks:
            if start <= vaddr <= vaddr + size <= start + len(data):
                return data[vaddr - start : vaddr - start + size]
        if not self.outside or size > LARGEST_READ or not 0 <= vaddr <= 1 << 64:
            raise FaultError("memory", vaddr, size, "not in the table")
        return bytes([self.outside - 1]) * size


def unpack(data: bytes) -> tuple[Vmcoreinfo, KernelMemory]:
    """Decode what ``pack`` made and a fuzzer changed; what is cut off is left out."""
    told, _, rest = data.partition(b"\0")
    blocks = []
    position = 1
    while position + _HEADER.size <= len(rest):
        vaddr, size = _HEADER.unpack_from(rest, position)
        position += _HEADER.size
        blocks.append((vaddr, rest[position : position + size]))
        position += size
    memory = _Memory(blocks, rest[0] if rest else 0)
    return parse_vmcoreinfo(told), KernelMemory(memory.read, "<", 8)
