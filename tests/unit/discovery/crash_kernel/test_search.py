"""The search for an elfcorehdr."""

from __future__ import annotations

import pytest

from tests.builders import dead_machines
from tests.builders.dead_machines import Flavour, Phdr, load_phdr, note_phdr, pack_elf
from tests.builders.memory import reader_of
from vmcorefs.core.space.ranges import Ranges, make_ranges
from vmcorefs.discovery.crash_kernel.elfcorehdr import Search, read_elfcorehdr, search_elfcorehdr
from vmcorefs.errors import FaultError, FormatError

CRASH = (0x800000, 0x1800000)
RAM = make_ranges([(0x1000, 0x9FC00), (0x100000, 0x2000000)])
NOTE = note_phdr(0x110000, 368)
LOAD = load_phdr(0x100000, CRASH[0])
CORE = pack_elf([NOTE, LOAD])


def search(*pieces: tuple[int, bytes], where: Ranges | None = None) -> Search:
    """Look through a crash kernel's memory that is zeros but for these bytes."""
    memory = bytearray(CRASH[1] - CRASH[0])
    for paddr, data in pieces:
        memory[paddr - CRASH[0] : paddr - CRASH[0] + len(data)] = data
    return search_elfcorehdr(
        reader_of((CRASH[0], memory)), make_ranges([CRASH]) if where is None else where, RAM
    )


def places(found: Search) -> list[int]:
    return [each.paddr for each in found.found]


@pytest.mark.parametrize(
    "paddr",
    [
        CRASH[0],
        CRASH[0] + 0x400,
        # behind the first 4 MiB, which are looked through at once, and around their end
        CRASH[0] + (4 << 20) - 0x400,
        CRASH[0] + (4 << 20),
        CRASH[0] + (9 << 20) + 0xC00,
        CRASH[1] - 0x400,
    ],
)
def test_an_elfcorehdr_anywhere_on_the_1_kib_grid_is_found(paddr: int) -> None:
    found = search((paddr, CORE))
    assert places(found) == [paddr]
    assert found.found[0].raw == CORE
    assert found.refused == ()


@pytest.mark.parametrize("paddr", [CRASH[0] + 0x200, CRASH[0] + 0x404])
def test_one_that_is_not_on_the_grid_is_not_looked_for(paddr: int) -> None:
    assert places(search((paddr, CORE))) == []


@pytest.mark.parametrize(
    "flavour", [Flavour(64, ">", 21), Flavour(32, "<", 3), Flavour(32, ">", 8)], ids=str
)
def test_every_class_and_byte_order_is_found(flavour: Flavour) -> None:
    assert places(search((0x900000, pack_elf([NOTE, LOAD], flavour)))) == [0x900000]


def test_only_the_given_ranges_are_looked_through() -> None:
    where = make_ranges([(0x900000, 0x901000), (0xA00000, 0xA01000)])
    pieces = [(paddr, CORE) for paddr in (0x800000, 0x900400, 0x901000, 0xA00C00)]
    assert places(search(*pieces, where=where)) == [0x900400, 0xA00C00]


def test_a_range_that_starts_off_the_grid_is_looked_through_from_the_next_point_on() -> None:
    where = make_ranges([(0x900001, 0x901000)])
    assert places(search((0x900000, CORE), (0x900400, CORE), where=where)) == [0x900400]


def test_what_the_image_does_not_hold_is_passed_over() -> None:
    memory = reader_of((0x900000, CORE.ljust(0x400, b"\0")), (0xB00000, CORE.ljust(0x400, b"\0")))
    found = search_elfcorehdr(memory, make_ranges([CRASH]), RAM)
    assert places(found) == [0x900000, 0xB00000]


@pytest.mark.parametrize(
    "impostor",
    [
        # /proc/vmcore's own merged header: its PT_NOTE has p_paddr 0
        pack_elf([Phdr(4, 0x1000, 2684, p_paddr=0), Phdr(1, 0x2000, 0x1000, p_paddr=0x100000)]),
        pack_elf([LOAD]),
        pack_elf([NOTE, LOAD], e_type=2),
        pack_elf([NOTE, LOAD], e_phnum=0),
        pack_elf([NOTE, LOAD], e_phnum=65535),
        pack_elf([NOTE, LOAD], e_phoff=0xFFFFFFFFFFFFFFF0),
        b"\x7fELF" + b"\xff" * 200,
        b"\x7fELF",
    ],
)
def test_other_elf_headers_in_a_crash_kernels_memory_are_passed_over(impostor: bytes) -> None:
    found = search((0x900000, impostor), (0xA00000, CORE))
    assert places(found) == [0xA00000]
    assert found.refused == ()


def test_an_elf_magic_in_the_last_bytes_of_memory_is_passed_over() -> None:
    memory = reader_of((0x900000, bytes(0x400) + CORE[:64]))
    found = search_elfcorehdr(memory, make_ranges([CRASH]), RAM)
    assert (found.found, found.refused) == ((), ())


def test_a_copy_that_describes_the_memory_where_it_lies_is_no_elfcorehdr() -> None:
    # the crash kernel's memory is in no PT_LOAD of the header that was made for it
    core = pack_elf([NOTE, load_phdr(0x100000, 0x900400)])
    assert places(search((0x900000, core), (0x900400, core))) == [0x900400]


@pytest.mark.parametrize(
    ("core", "reason"),
    [
        (
            pack_elf([NOTE, load_phdr(0x1900000, 1 << 40)]),
            "PT_LOAD [0x1900000, 0x10000000000) is not inside the map's RAM",
        ),
        (pack_elf([NOTE, LOAD], e_phnum=65534), "program header 2: p_type is 0x0, expected"),
        (pack_elf([NOTE]), "no PT_LOAD"),
        (
            pack_elf([NOTE, Phdr(1, 0x100000, 2**64 - 0x100000)]),
            "program header 1: p_offset 0x100000 with p_memsz 0xfffffffffff00000 ends beyond",
        ),
        (
            pack_elf([NOTE, load_phdr(0x1000, 0x9FC00, offset=0x40000000)]),
            "PT_LOAD [0x40000000, 0x4009ec00) is not inside the map's RAM",
        ),
        (
            pack_elf([NOTE, load_phdr(0x100000, 0x200000, offset=0x900000)]),
            "p_offset differs from p_paddr in the PT_LOAD of [0x100000, 0x200000); only memory",
        ),
        (pack_elf([note_phdr(0x50000000, 368), LOAD]), "PT_NOTE [0x50000000, 0x50000170) is not"),
        (pack_elf([note_phdr(0x110000, 2**63), LOAD]), "program header 0: a PT_NOTE of 92233720"),
    ],
)
def test_an_elfcorehdr_with_values_that_cannot_be_is_refused_with_its_address(
    core: bytes, reason: str
) -> None:
    found = search((0x900000, core))
    assert found.found == ()
    ((paddr, why),) = found.refused
    assert paddr == 0x900000
    assert why.startswith(reason)


def test_more_program_headers_than_there_is_memory_are_refused() -> None:
    core = pack_elf([NOTE, LOAD], e_phnum=65534)
    ((paddr, why),) = search((CRASH[1] - 0x400, core)).refused
    assert paddr == CRASH[1] - 0x400
    assert why == "memory: no input holds [0x1800000, 0x1b7fbd0) (not in the table, 3668944 bytes)"


def test_one_that_is_read_by_its_address_need_not_be_on_the_grid() -> None:
    machine = dead_machines.dead_machine()
    machine.put(0x180204, machine.elfcorehdr)
    found = read_elfcorehdr(reader_of((0, machine.memory)), 0x180204)
    assert (found.paddr, found.raw) == (0x180204, machine.elfcorehdr)


def test_an_address_without_an_elfcorehdr_is_refused() -> None:
    memory = reader_of((0, bytes(4096)))
    with pytest.raises(FormatError):
        read_elfcorehdr(memory, 0)
    with pytest.raises(FaultError):
        read_elfcorehdr(memory, 4090)
