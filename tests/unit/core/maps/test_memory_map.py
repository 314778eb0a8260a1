"""The memory map's own rules."""

from __future__ import annotations

import pytest

from tests.builders import dead_machines
from tests.matching import exactly
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.maps.memory_map import (
    MemoryMap,
    format_iomem,
    make_memory_map,
    map_from_elfcorehdr,
    with_crash_kernel,
)
from vmcorefs.core.maps.regions import Region
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

RAM = "System RAM"


def build(*regions: tuple[int, int, str, int]) -> MemoryMap:
    return make_memory_map((Region(*r, line) for line, r in enumerate(regions, 1)), "test")


def test_ram_is_every_region_that_says_so_and_touching_ones_are_one() -> None:
    memory_map = build(
        (0, 0x1000, "Reserved", 0),
        (0x1000, 0x2000, RAM, 0),
        (0x2000, 0x3000, "System RAM (kmem)", 0),
        (0x8000, 0xA000, "Persistent Memory", 0),
        (0x9000, 0xA000, "System RAM (virtio_mem)", 1),
    )
    assert memory_map.ram.tolist() == [[0x1000, 0x3000], [0x9000, 0xA000]]
    assert memory_map.end == 0xA000


def test_the_crash_kernel_is_ram_that_the_crashed_kernel_did_not_use() -> None:
    memory_map = build((0, 0x8000, RAM, 0), (0x2000, 0x3000, "Crash kernel", 1))
    assert memory_map.crash_kernel.tolist() == [[0x2000, 0x3000]]
    assert memory_map.crashed_ram.tolist() == [[0, 0x2000], [0x3000, 0x8000]]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (
            # |-------|
            #      |-------|
            [(0, 0x3000, RAM, 0), (0x2000, 0x5000, "Reserved", 0)],
            "line 2: Reserved [0x2000, 0x5000): overlaps line 1: System RAM [0x0, 0x3000)",
        ),
        (
            [(0x2000, 0x3000, RAM, 0), (0, 0x1000, RAM, 0)],
            (
                "line 2: System RAM [0x0, 0x1000): is out of order after line 1: System RAM"
                " [0x2000, 0x3000)"
            ),
        ),
        (
            [(0, 0x1000, RAM, 0), (0x800, 0x1800, "Kernel code", 1)],
            "line 2: Kernel code [0x800, 0x1800): not inside line 1: System RAM [0x0, 0x1000)",
        ),
        (
            [(0, 0x1000, RAM, 0), (0, 0x100, "Kernel code", 2)],
            "line 2: Kernel code [0x0, 0x100): indented deeper than the region before it allows",
        ),
        (
            [
                (0, 0x1000, RAM, 0),
                (0, 0x100, "a", 1),
                (0x1000, 0x2000, RAM, 0),
                (0x1000, 0x1001, "b", 2),
            ],
            "line 4: b [0x1000, 0x1001): indented deeper than the region before it allows",
        ),
        (
            [(0, 0x9000, RAM, 0), (0, 0x300, "a", 1), (0x200, 0x400, "b", 1)],
            "line 3: b [0x200, 0x400): overlaps line 2: a [0x0, 0x300)",
        ),
        (
            [(0x1000, 0x1000, RAM, 0)],
            "line 1: System RAM [0x1000, 0x1000): empty, or it ends beyond 0x4000000000000000",
        ),
        (
            [(0, MAX_ADDRESS + 1, RAM, 0)],
            (
                "line 1: System RAM [0x0, 0x4000000000000001): empty, or it ends beyond"
                " 0x4000000000000000"
            ),
        ),
        ([(0, 0x1000, "Reserved", 0)], "1 region, none of which is System RAM"),
        ([], "0 regions, none of which is System RAM"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused_with_both_lines(
    regions: list[tuple[int, int, str, int]], message: str
) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        build(*regions)


def test_children_of_different_regions_are_not_compared() -> None:
    memory_map = build(
        (0, 0x1000, RAM, 0),
        (0x800, 0x1000, "Kernel code", 1),
        (0x1000, 0x2000, RAM, 0),
        (0x1000, 0x1400, "Kernel data", 1),
    )
    assert len(memory_map.regions) == 4


def test_a_crash_kernel_that_the_map_does_not_know_is_added_inside_its_region() -> None:
    memory_map = build((0, 0x8000, RAM, 0), (0x1000, 0x2000, "Kernel code", 1))
    added = with_crash_kernel(memory_map, make_ranges([(0x4000, 0x6000)]))
    assert format_iomem(added) == (
        "00000000-00007fff : System RAM\n"
        "  00001000-00001fff : Kernel code\n"
        "  00004000-00005fff : Crash kernel\n"
    )


def test_a_crash_kernel_that_the_map_knows_changes_nothing() -> None:
    memory_map = build((0, 0x8000, RAM, 0), (0x4000, 0x6000, "Crash kernel", 1))
    assert with_crash_kernel(memory_map, make_ranges([(0x4000, 0x6000)])) is memory_map


def test_a_crash_kernel_outside_the_map_is_refused() -> None:
    with pytest.raises(
        FormatError,
        match=exactly("Crash kernel [0x7000, 0x9000): not inside one region of the map"),
    ):
        with_crash_kernel(build((0, 0x8000, RAM, 0)), make_ranges([(0x7000, 0x9000)]))


def test_an_elfcorehdr_is_a_map_of_its_segments() -> None:
    elfcorehdr = parse_elfcorehdr(dead_machines.pack_elf(dead_machines.kexec_tools_phdrs()))
    memory_map = map_from_elfcorehdr(elfcorehdr)
    assert memory_map.elfcorehdr is elfcorehdr
    assert memory_map.ram.tolist() == [
        [0x1000, 0x9FC00],
        [0x100000, 0x200000],
        [0x2C0000, 0x300000],
    ]
    assert memory_map.crash_kernel.tolist() == []


def test_addresses_above_4_gib_are_printed_in_full() -> None:
    assert format_iomem(build((1 << 32, 5 << 32, RAM, 0))) == ("100000000-4ffffffff : System RAM\n")
