"""Where the blocks of a virtual machine's RAM are in its physical address space.

A stream does not say: it goes by the type of the machine, and the names that QEMU gives to blocks
(hw/i386/pc_piix.c, pc_q35.c, microvm.c; hw/arm/virt.c, hw/riscv/virt.c, hw/loongarch/virt.c).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from vmcorefs.core.formats.qemu.ram import Block
from vmcorefs.core.space.placement import PCI_HOLE_END

_DEVICE: Final = re.compile(r"vram|bios|rom|flash|vga|sram|tpm|sgx|mmio", re.IGNORECASE)
_NODE: Final = re.compile(r"(.*?)(\d+)")
_BASES: Final = (  # by the start of the machine type
    ("virt-", 1 << 30),  # arm
    ("virt", 2 << 30),  # riscv, whose type has no version
    ("sbsa-ref", 1 << 40),
    ("raspi", 0),
)


class Spot(msgspec.Struct, frozen=True):
    """A part of RAM.

    Attributes:
        paddr: Its first physical address.
        size: Bytes in it.
        base: Where it begins in the address space of all blocks.
    """

    paddr: int
    size: int
    base: int


class Placed(msgspec.Struct, frozen=True):
    """Where RAM is.

    Attributes:
        spots: Its parts.
        left: Blocks whose place is not known, and that are not a device's.
    """

    spots: tuple[Spot, ...]
    left: tuple[Block, ...]


def place_blocks(machine: str, blocks: Sequence[Block]) -> Placed:
    """Find the RAM that a machine has from the start, and place it.

    That is the block whose name ends with ``.ram``; or those of the NUMA nodes, one behind the
    other; or the largest.

    Args:
        machine: Its type; empty if it is not known.
        blocks: Its blocks.
    """
    own = [block for block in blocks if not _DEVICE.search(block.name)]
    main = [block for block in own if block.name.endswith(".ram")][:1] or _nodes(own)
    if not main and own:
        main = [max(own, key=lambda block: block.size)]
    low, base = _split(machine, sum(block.size for block in main))
    spots: list[Spot] = []
    done = 0
    for block in main:
        below = min(max(low - done, 0), block.size)
        if below:
            spots.append(Spot(base + done, below, block.base))
        if below < block.size:
            above = PCI_HOLE_END + max(done - low, 0)
            spots.append(Spot(above, block.size - below, block.base + below))
        done += block.size
    return Placed(tuple(spots), tuple(block for block in own if block not in main))


def _nodes(blocks: Sequence[Block]) -> list[Block]:
    """The blocks of NUMA nodes, in the order of their numbers."""
    found: dict[str, list[tuple[int, Block]]] = {}
    for block in blocks:
        match = _NODE.fullmatch(block.name)
        if match is not None and "node" in match[1]:
            found.setdefault(match[1], []).append((int(match[2]), block))
    best = max(found.values(), key=len, default=[])
    return [block for _, block in sorted(best, key=lambda each: each[0])]


def _split(machine: str, size: int) -> tuple[int, int]:
    """How much of RAM is below the PCI hole, and where it begins."""
    for start, base in _BASES:
        if machine.startswith(start):
            return size, base
    if machine.startswith("pc-q35"):
        return (2 << 30 if size >= 0xB0000000 else size), 0
    if machine.startswith("microvm"):
        return min(size, 3 << 30), 0
    if not machine or machine.startswith("pc"):
        return (3 << 30 if size >= 0xE0000000 else size), 0
    return size, 0
