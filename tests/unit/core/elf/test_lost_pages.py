"""Program headers without lost memory, against ones written by hand."""

from __future__ import annotations

from tests.builders.dead_machines import PT_LOAD, PT_NOTE, Phdr, pack_elf
from vmcorefs.core.elf.elf import PhdrTable, parse_ehdr, parse_phdrs
from vmcorefs.core.elf.lost_pages import without_lost
from vmcorefs.core.space.ranges import make_ranges

NO_ADDRESS = 2**64 - 1
VADDR = 0xFFFF_8880_0000_0000


def headers(*phdrs: Phdr) -> PhdrTable:
    data = pack_elf(list(phdrs))
    header = parse_ehdr(data)
    return parse_phdrs(header, data[header.ehdr_size :])


def test_a_segment_is_divided_where_something_is_lost() -> None:
    table = headers(
        Phdr(PT_NOTE, 0x500, 0x100, p_paddr=0, p_flags=0),
        Phdr(PT_LOAD, 0x1000, 0x6000, p_paddr=0x10000, p_vaddr=VADDR + 0x10000, p_filesz=0x5000),
        Phdr(PT_LOAD, 0x6000, 0x1000, p_paddr=0x20000),
        Phdr(PT_LOAD, 0x7000, 0x3000, p_paddr=0x30000, p_filesz=0),
    )
    found = without_lost(table, make_ranges([(0x11000, 0x13000), (0x20000, 0x21000)]))
    columns = ("p_offset", "p_paddr", "p_vaddr", "p_filesz", "p_memsz")
    assert [tuple(int(phdr[name]) for name in columns) for phdr in found] == [
        (0x500, 0, 0, 0x100, 0x100),
        (0x1000, 0x10000, VADDR + 0x10000, 0x1000, 0x1000),
        (0x4000, 0x13000, VADDR + 0x13000, 0x2000, 0x3000),
        (0x7000, 0x30000, 0, 0, 0x3000),
    ]


def test_what_tells_no_physical_address_may_show_what_is_lost() -> None:
    table = headers(
        Phdr(PT_LOAD, 0x1000, 0x2000, p_paddr=NO_ADDRESS, p_vaddr=VADDR),
        Phdr(PT_LOAD, 0x1000, 0x4000, p_paddr=0x10000),
    )
    found = without_lost(table, make_ranges([(0x12000, 0x14000)]))
    assert found["p_paddr"].tolist() == [0x10000]
    assert found["p_memsz"].tolist() == [0x2000]
