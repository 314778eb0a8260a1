"""One address through page tables, against tables made by hand and against the walk of all."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from tests.builders.mappings import format_of
from tests.builders.page_tables import MACHINES, TOP, Machine, Tables, arm, riscv, x86
from vmcorefs.core.paging.formats import x86_64
from vmcorefs.core.paging.lookup import entry_offset, translate, translate_pages
from vmcorefs.errors import FaultError

FOUR_LEVELS = x86_64(levels=4)
ROOT, UPPER, MIDDLE, LAST = 0x1000, 0x2000, 0x3000, 0x4000
VADDR = 0xFFFFFFFF81234567  # indices 511, 510, 9, 0x34


def reader(entries: dict[int, int]) -> Callable[[int], int]:
    def read_entry(paddr: int) -> int:
        if paddr not in entries:
            raise FaultError("memory", paddr, 8, "not in the table")
        return entries[paddr]

    return read_entry


def test_where_an_entry_stands() -> None:
    offsets = [entry_offset(FOUR_LEVELS, level, VADDR) for level in range(4)]
    assert offsets == [511 * 8, 510 * 8, 9 * 8, 0x34 * 8]
    assert entry_offset(FOUR_LEVELS, 0, VADDR - TOP) == 511 * 8  # signed


def test_a_page_of_each_size() -> None:
    entries = {
        ROOT + 511 * 8: UPPER | 0x67,
        UPPER + 510 * 8: MIDDLE | 0x67,
        MIDDLE + 9 * 8: LAST | 0x67,
        LAST + 0x34 * 8: 0x8000_0000_0765_4063,
    }
    assert translate(FOUR_LEVELS, ROOT, VADDR, reader(entries)) == 0x7654567
    entries[MIDDLE + 9 * 8] = 0x1E3 | 0x4020_0000 | 1 << 12  # 2 MiB, with PAT in bit 12
    assert translate(FOUR_LEVELS, ROOT, VADDR, reader(entries)) == 0x40234567
    entries[UPPER + 510 * 8] = 0x1E3 | 0x8000_0000
    assert translate(FOUR_LEVELS, ROOT, VADDR, reader(entries)) == 0x81234567
    entries[ROOT + 511 * 8] = 0x1E3  # no CPU has pages of 512 GiB
    assert translate(FOUR_LEVELS, ROOT, VADDR, reader(entries)) is None


@pytest.mark.parametrize("level", range(4))
def test_nothing_is_mapped_where_an_entry_is_not_valid(level: int) -> None:
    at = [ROOT + 511 * 8, UPPER + 510 * 8, MIDDLE + 9 * 8, LAST + 0x34 * 8]
    entries = dict(zip(at, (UPPER | 1, MIDDLE | 1, LAST | 1, 0x5001), strict=True))
    entries[at[level]] &= ~1
    assert translate(FOUR_LEVELS, ROOT, VADDR, reader(entries)) is None


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_nothing_is_mapped_at_an_address_that_the_cpu_refuses(machine: Machine) -> None:
    tables, vaddr = Tables(machine), machine.end - machine.page
    tables.map(vaddr, 0x7000_0000, machine.page, 1)
    unused = machine.spans[0] * machine.entries[0]  # the lowest bit that indexes no table

    def at(vaddr: int) -> list[int | None]:
        fmt, one = format_of(machine), np.array([vaddr], dtype=np.uint64).astype(np.int64)
        many = int(translate_pages(fmt, tables.root, one, tables.read_tables)[0])
        alone = translate(fmt, tables.root, vaddr, lambda at: tables.get(at, 0))
        return [None if many < 0 else many, alone]

    assert at(vaddr) == [0x7000_0000, 0x7000_0000]
    for bit in (unused, 1 << 62, 1 << 63):
        assert at(vaddr ^ bit) == [None, None], hex(bit)
    if machine.start:  # on s390x these addresses are the kernel's as well
        assert at(vaddr % unused) == [None, None]


def test_a_table_that_names_itself_ends() -> None:
    reads = []

    def read_entry(paddr: int) -> int:
        reads.append(paddr)
        return ROOT | 0x67

    assert translate(FOUR_LEVELS, ROOT, VADDR, read_entry) == ROOT | 0x567
    assert len(reads) == 4


def test_a_table_that_no_input_holds_is_an_error() -> None:
    with pytest.raises(FaultError):
        translate(FOUR_LEVELS, ROOT, VADDR, reader({ROOT + 511 * 8: 0xF_FFFF_FFFF_F067}))


@pytest.mark.parametrize(
    "machine", [x86(57), arm(4, 48), arm(64, 52), riscv(39)], ids=lambda one: one.name
)
def test_other_formats(machine: object) -> None:
    assert isinstance(machine, type(x86(48)))
    tables = Tables(machine)
    vaddr = TOP - machine.spans[0] + 3 * machine.page
    tables.map(vaddr, 0x7000_0000, machine.page, 2)

    def read_entry(paddr: int) -> int:
        value: int = struct.unpack_from("<Q", tables.memory, paddr - tables.base)[0]
        return value

    fmt = format_of(machine)
    assert translate(fmt, tables.root, vaddr + 5, read_entry) == 0x7000_0005
    assert translate(fmt, tables.root, vaddr + machine.page, read_entry) is None
