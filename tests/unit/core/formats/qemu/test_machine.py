"""Where QEMU puts the RAM of each type of machine."""

from __future__ import annotations

import pytest

from vmcorefs.core.formats.qemu.machine import place_blocks
from vmcorefs.core.formats.qemu.ram import Block

GIB = 1 << 30


def place(machine: str, **sizes: int) -> list[tuple[int, int, int]]:
    """Address, size and place among all blocks of each part of RAM."""
    blocks, base = [], 0
    for name, size in sizes.items():
        blocks.append(Block(name.replace("_", "."), size, base))
        base += size
    return [(spot.paddr, spot.size, spot.base) for spot in place_blocks(machine, blocks).spots]


@pytest.mark.parametrize(
    ("machine", "size", "expected"),
    [
        ("pc-q35-7.2", GIB, [(0, GIB, 0)]),
        ("pc-q35-7.2", 0xB0000000 - 4096, [(0, 0xB0000000 - 4096, 0)]),
        ("pc-q35-7.2", 0xB0000000, [(0, 2 * GIB, 0), (4 * GIB, 0x30000000, 2 * GIB)]),
        ("pc-q35-7.2", 5 * GIB, [(0, 2 * GIB, 0), (4 * GIB, 3 * GIB, 2 * GIB)]),
        ("pc-i440fx-7.2", 3 * GIB, [(0, 3 * GIB, 0)]),
        ("pc-i440fx-7.2", 0xE0000000, [(0, 3 * GIB, 0), (4 * GIB, GIB // 2, 3 * GIB)]),
        ("microvm", 4 * GIB, [(0, 3 * GIB, 0), (4 * GIB, GIB, 3 * GIB)]),
        ("", 4 * GIB, [(0, 3 * GIB, 0), (4 * GIB, GIB, 3 * GIB)]),
        ("virt-7.2", 8 * GIB, [(GIB, 8 * GIB, 0)]),
        ("virt", 8 * GIB, [(2 * GIB, 8 * GIB, 0)]),
        ("s390-ccw-virtio-7.2", 8 * GIB, [(0, 8 * GIB, 0)]),
    ],
)
def test_ram_is_split_at_the_pci_hole_of_the_machine(
    machine: str, size: int, expected: list[tuple[int, int, int]]
) -> None:
    assert place(machine, pc_ram=size) == expected


def test_video_memory_and_firmware_are_no_ram() -> None:
    assert place("pc-q35-7.2", vga_vram=GIB, ram=GIB // 2, pc_bios=GIB) == [(0, GIB // 2, GIB)]


def test_the_memory_of_numa_nodes_is_one_behind_the_other() -> None:
    nodes = [Block("ram-node1", 2 * GIB, 0), Block("ram-node0", 3 * GIB, 2 * GIB)]
    placed = place_blocks("pc-q35-7.2", nodes)
    assert [(spot.paddr, spot.size, spot.base) for spot in placed.spots] == [
        (0, 2 * GIB, 2 * GIB),
        (4 * GIB, GIB, 4 * GIB),
        (5 * GIB, 2 * GIB, 0),
    ]
    assert placed.left == ()


def test_memory_that_was_plugged_in_is_left_out_by_name() -> None:
    blocks = [Block("pc.ram", GIB, 0), Block("mem1", GIB, GIB), Block("vga.vram", GIB, 2 * GIB)]
    assert place_blocks("pc-q35-7.2", blocks).left == (blocks[1],)
