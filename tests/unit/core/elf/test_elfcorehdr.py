"""The elfcorehdr: what is believed of one, and how one is made from a map."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builders import dead_machines
from tests.builders.dead_machines import Phdr, load_phdr, note_phdr, pack_elf
from tests.matching import exactly
from vmcorefs.core.elf.elfcorehdr import (
    MAX_NOTE_SLOT,
    check_found,
    looks_like_elfcorehdr,
    make_elfcorehdr,
    parse_elfcorehdr,
)
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

RAM = make_ranges([(0x1000, 0x9FC00), (0x100000, 0x300000)])
NOTE = note_phdr(0x110000, 368)
LOAD = load_phdr(0x100000, 0x200000)


def test_what_kexec_tools_writes_is_understood() -> None:
    parsed = parse_elfcorehdr(pack_elf(dead_machines.kexec_tools_phdrs(3)) + b"what follows it")
    assert parsed.notes["p_offset"].tolist() == [0x110000, 0x110200, 0x110400, 0x120000]
    assert parsed.loads["p_paddr"].tolist() == [0x140000, 0x1000, 0x100000, 0x2C0000]
    # the kernel's text lies inside a RAM range
    assert parsed.ram.tolist() == [[0x1000, 0x9FC00], [0x100000, 0x200000], [0x2C0000, 0x300000]]
    assert parsed.backup == (0x1000, 0x9EC00, 0x200400)


def test_what_the_kernel_writes_has_no_backup() -> None:
    assert parse_elfcorehdr(pack_elf(dead_machines.kernel_phdrs())).backup is None


def test_empty_segments_are_neither_ram_nor_backup() -> None:
    empty = load_phdr(0x1000, 0x1000, offset=0x200400)
    parsed = parse_elfcorehdr(pack_elf([NOTE, empty, LOAD]))
    assert parsed.loads["p_paddr"].tolist() == [0x100000]
    assert parsed.backup is None
    assert len(parsed.phdrs) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Phdr(2, 0, 0), "p_type is 0x2, expected PT_LOAD or PT_NOTE"),
        (Phdr(0, 0, 0), "p_type is 0x0, expected PT_LOAD or PT_NOTE"),
        (
            note_phdr(0x1000, MAX_NOTE_SLOT + 1),
            "a PT_NOTE of 1048577 bytes, expected at most 1048576",
        ),
        (
            Phdr(1, 0x1000, 2**64 - 0x1000),
            "p_offset 0x1000 with p_memsz 0xfffffffffffff000 ends beyond 0x4000000000000000",
        ),
        (
            Phdr(1, 0x1000, 16, p_paddr=MAX_ADDRESS - 15),
            "p_paddr 0x3ffffffffffffff1 with p_memsz 0x10 ends beyond 0x4000000000000000",
        ),
        (
            note_phdr(2**64 - 1, 368),
            "p_offset 0xffffffffffffffff with p_memsz 0x170 ends beyond 0x4000000000000000",
        ),
        (
            Phdr(1, 0x1000, 0x2000, p_filesz=0x1000),
            "p_filesz 0x1000 differs from p_memsz 0x2000",
        ),
    ],
)
def test_a_program_header_that_no_kernel_writes_is_refused_by_its_number(
    bad: Phdr, message: str
) -> None:
    with pytest.raises(FormatError, match=exactly(f"program header 1: {message}")):
        parse_elfcorehdr(pack_elf([NOTE, bad, LOAD]))


def test_a_segment_may_end_at_the_highest_address() -> None:
    parsed = parse_elfcorehdr(pack_elf([NOTE, load_phdr(0, MAX_ADDRESS)]))
    assert parsed.ram.tolist() == [[0, MAX_ADDRESS]]


def test_more_note_buffers_than_any_machine_has_are_refused() -> None:
    slots = [note_phdr(0x100000, MAX_NOTE_SLOT)] * 64
    assert len(parse_elfcorehdr(pack_elf([*slots, LOAD])).notes) == 64
    with pytest.raises(
        FormatError, match=exactly("PT_NOTEs of 67109232 bytes, expected at most 67108864")
    ):
        parse_elfcorehdr(pack_elf([*slots, NOTE, LOAD]))


def test_two_backup_regions_are_refused() -> None:
    moved = [load_phdr(0, 0x1000, offset=0x200000), load_phdr(0x1000, 0x2000, offset=0x201000)]
    with pytest.raises(
        FormatError,
        match=exactly("p_offset differs from p_paddr in 2 PT_LOADs; the backup region is only one"),
    ):
        parse_elfcorehdr(pack_elf([NOTE, *moved]))


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (NOTE, True),
        (LOAD, False),
        # the merged header of a /proc/vmcore: p_paddr is 0
        (Phdr(4, 0x1000, 4096, p_paddr=0), False),
        (note_phdr(0, 4096), False),
        (Phdr(4, 0x1000, 4096, p_paddr=0x2000), False),
    ],
)
def test_an_elfcorehdr_starts_with_a_note_buffer_at_its_physical_address(
    first: Phdr, answer: bool
) -> None:
    assert looks_like_elfcorehdr(parse_elfcorehdr(pack_elf([first, LOAD])).phdrs) is answer


def test_a_found_elfcorehdr_that_points_into_ram_is_believed() -> None:
    check_found(parse_elfcorehdr(pack_elf(dead_machines.kexec_tools_phdrs())), RAM)


@pytest.mark.parametrize(
    ("phdrs", "message"),
    [
        ([NOTE], "no PT_LOAD"),
        (
            [NOTE, load_phdr(0x100000, 0x100400, offset=0x200000)],
            (
                "p_offset differs from p_paddr in the PT_LOAD of [0x100000, 0x100400); only memory"
                " below 0x100000 is backed up"
            ),
        ),
        (
            [note_phdr(0x9FB00, 368), LOAD],
            "PT_NOTE [0x9fb00, 0x9fc70) is not inside the map's RAM",
        ),
        (
            [NOTE, load_phdr(0x2FF000, 0x301000)],
            "PT_LOAD [0x2ff000, 0x301000) is not inside the map's RAM",
        ),
        ([NOTE, load_phdr(0, 0x1000)], "PT_LOAD [0x0, 0x1000) is not inside the map's RAM"),
        (
            [NOTE, load_phdr(0x1000, 0x9FC00, offset=0x400000)],
            "PT_LOAD [0x400000, 0x49ec00) is not inside the map's RAM",
        ),
    ],
)
def test_a_found_elfcorehdr_that_points_elsewhere_is_refused(
    phdrs: list[Phdr], message: str
) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        check_found(parse_elfcorehdr(pack_elf(phdrs)), RAM)


def test_nothing_is_inside_a_map_without_ram() -> None:
    with pytest.raises(FormatError):
        check_found(parse_elfcorehdr(pack_elf([NOTE, LOAD])), make_ranges([]))


def test_one_is_made_with_a_segment_for_each_range_and_unknown_virtual_addresses() -> None:
    made = make_elfcorehdr(RAM, e_machine=62)
    assert made.phdrs["p_type"].tolist() == [1, 1]
    assert made.phdrs["p_paddr"].tolist() == made.phdrs["p_offset"].tolist() == [0x1000, 0x100000]
    assert made.phdrs["p_memsz"].tolist() == made.phdrs["p_filesz"].tolist() == [0x9EC00, 0x200000]
    assert made.phdrs["p_flags"].tolist() == [7, 7]
    assert not made.phdrs["p_vaddr"].any()
    assert not made.phdrs["p_align"].any()


@pytest.mark.parametrize(
    ("machine", "end", "elf_class"),
    [
        (62, 1 << 30, 2),
        (3, 1 << 30, 1),
        (3, 1 << 32, 1),
        (3, (1 << 32) + 4096, 2),
        (183, 1 << 30, 2),
    ],
)
def test_an_i386_machine_below_4_gib_gets_elf32_and_all_others_elf64(
    machine: int, end: int, elf_class: int
) -> None:
    made = make_elfcorehdr(make_ranges([(0x100000, end)]), e_machine=machine)
    assert made.header.elf_class == elf_class


def test_the_class_and_the_byte_order_can_be_asked_for() -> None:
    made = make_elfcorehdr(RAM, e_machine=21, byte_order=">", elf_class=1)
    assert (made.header.elf_class, made.header.byte_order) == (1, ">")
    assert np.array_equal(made.ram, RAM)


DIRECT, TEXT = 0xFFFF9C8000000000, (0xFFFFFFFF8A000000, 0x140000, 0x21000)


def test_one_is_made_of_all_that_a_kernel_says_of_itself() -> None:
    made = make_elfcorehdr(
        RAM,
        e_machine=62,
        notes=[(0x110000, 368), (0x110200, 368), (0x120000, 1024)],
        text=TEXT,
        direct_map=DIRECT,
    )
    assert (
        made.phdrs.tolist()
        == parse_elfcorehdr(
            pack_elf(
                [
                    note_phdr(0x110000, 368),
                    note_phdr(0x110200, 368),
                    note_phdr(0x120000, 1024),
                    load_phdr(0x140000, 0x161000, vaddr=TEXT[0]),
                    load_phdr(0x1000, 0x9FC00, vaddr=DIRECT + 0x1000),
                    load_phdr(0x100000, 0x300000, vaddr=DIRECT + 0x100000),
                ]
            )
        ).phdrs.tolist()
    )
    assert np.array_equal(made.ram, RAM)
    assert made.backup is None


def test_a_direct_map_below_physical_addresses_wraps_around() -> None:
    # arm64: PAGE_OFFSET less a PHYS_OFFSET that is above it modulo 2**64
    ram = make_ranges([(0x40000000, 0x80000000)])
    made = make_elfcorehdr(ram, e_machine=183, direct_map=2**64 - 0x40000000 + 16)
    assert made.loads["p_vaddr"].tolist() == [16]


def test_one_is_made_of_notes_alone() -> None:
    made = make_elfcorehdr(make_ranges([]), e_machine=62, notes=[(0x1000, 8)])
    assert made.phdrs["p_type"].tolist() == [4]
    assert made.ram.tolist() == []
