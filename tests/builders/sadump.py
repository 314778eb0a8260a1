"""Dumps by sadump, after makedumpfile's sadump_mod.h and libkdumpfile's sadump.c."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence

BLOCK = 4096
GENERAL = "r15 r14 r13 r12 r11 r10 r9 r8 rax rcx rdx rbx rsp rbp rsi rdi"
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")


def _bitmap(pages: Collection[int], blocks: int) -> bytes:
    out = bytearray(blocks * BLOCK)
    for page in pages:
        out[page >> 3] |= 0x80 >> (page & 7)
    return bytes(out)


def disk_header(number: int, used: int, identity: int = 1) -> bytes:
    raw = b"sadump\0\0" + struct.pack("<4I", 1, 0, 0, 0) + bytes(64)
    raw += bytes([identity]) * 32 + bytes([number]) * 16 + bytes([identity]) * 16
    raw += struct.pack("<IIQ", number, 0, used)
    word = 1234567
    while len(raw) < BLOCK:
        raw += struct.pack("<I", word)
        word = (word + 7) * 11 & 0xFFFFFFFF
    # what follows is not the next of these numbers
    return raw


def pack_cpu(registers: Mapping[str, int]) -> bytes:
    """A CPU's state in SMRAM (struct sadump_smram_cpu_state)."""
    raw = bytearray(b"\x44" * 1024)
    values = [registers.get(name, 0) for name in GENERAL.split(" ")]
    struct.pack_into("<16Q", raw, 796, *values)
    struct.pack_into("<6I", raw, 936, *(registers.get(name, 0) for name in SEGMENTS))
    struct.pack_into("<Q", raw, 984, registers.get("rip", 0))
    struct.pack_into("<Q", raw, 1000, registers.get("eflags", 0))
    return bytes(raw)


def pack_sadump(
    memory: bytes,
    ram: Collection[int],
    dumped: Collection[int],
    *,
    cuts: Sequence[int] = (),
    cpus: Sequence[Mapping[str, int]] = (),
    version: int = 1,
) -> list[bytes]:
    """The disks of a dump.

    Args:
        memory: From address 0 on.
        ram: The pages that are RAM, by number.
        dumped: Those that are in the dump.
        cuts: After how many of its pages another disk goes on; none if there is one disk.
        cpus: Their registers.
        version: Of the dump's header.
    """
    pages = len(memory) // BLOCK
    blocks = -(-pages // (8 * BLOCK))
    states = struct.pack("<I", 1024 * len(cpus)) + bytes(16 * len(cpus))
    states += b"".join(map(pack_cpu, cpus))
    state_blocks = -(-len(states) // BLOCK)
    numbers = [0, 0, BLOCK, 0, state_blocks, blocks, blocks, 0 if version else pages]
    numbers += [len(ram), 0, 0, 0, len(cpus)]
    body = b"sadump\0\0" + struct.pack("<II16s13I4xQ", version, 0, bytes(16), *numbers, pages)
    body = body.ljust(BLOCK, b"\0") + states.ljust(state_blocks * BLOCK, b"\0")
    body += _bitmap(ram, blocks) + _bitmap(dumped, blocks)
    stored = [memory[page * BLOCK : (page + 1) * BLOCK] for page in sorted(dumped)]
    if not cuts:
        data = body + b"".join(stored)
        return [disk_header(0, BLOCK + len(data)) + data]
    parts = [stored[low:high] for low, high in zip((0, *cuts), (*cuts, None), strict=True)]
    listed = struct.pack("<IIQ", 1, len(parts), 0).ljust(BLOCK, b"\0")
    first = listed + body + b"".join(parts[0])
    datas = [first, *(b"".join(part) for part in parts[1:])]
    return [
        disk_header(number, BLOCK + len(data)) + data for number, data in enumerate(datas, start=1)
    ]
