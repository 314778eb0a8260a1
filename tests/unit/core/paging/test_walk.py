"""Page tables: entries written by hand, and tables that no kernel would make."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builders.mappings import rows, walk_tables
from tests.builders.page_tables import MACHINES, TOP, G, Machine, Tables, U, W, X, arm, riscv, x86
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.paging.formats import arm64, riscv64, x86_64
from vmcorefs.core.paging.mappings import Mappings, Problem, Reason
from vmcorefs.core.paging.walk import Limits, walk
from vmcorefs.core.space.extents import Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.kernel.page_tables import table_reader
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource

KERNEL = 0xFFFF_FFFF_8000_0000
X86 = x86(48)
X86_FORMAT = x86_64(levels=4)


def reasons(found: Mappings) -> dict[Reason, int]:
    return {problem.reason: problem.count for problem in found.problems}


def one_entry(machine: Machine, vaddr: int, entry: int) -> Tables:
    """Tables with one entry of the last level, as it is."""
    tables = Tables(machine)
    last = len(machine.spans) - 1
    tables.put(tables.descend(vaddr, last), tables.index(last, vaddr), entry)
    return tables


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_page_of_every_size_at_both_ends(machine: Machine) -> None:
    tables = Tables(machine)
    step = max(machine.sizes)
    for number, size in enumerate(machine.sizes):
        paddr = (1 << machine.paddr_bits) - (number + 1) * step
        tables.map(machine.start + number * step, paddr, size, W | G)
    tables.map(machine.end - machine.page, 0, machine.page, X | G)
    found = walk_tables(tables)
    assert rows(found) == tables.runs()
    assert found.problems == ()
    for vaddr, paddr, size, _ in tables.mapped:
        assert found.translate(vaddr + size - 1) == paddr + size - 1
        if vaddr >> 63:  # on s390x they are positive
            assert found.translate(vaddr - TOP) == paddr


def test_neighbours_are_one_run_whatever_the_size_of_their_pages() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x20_0000, 2 << 20, W | G)
    tables.map(KERNEL + (2 << 20), 0x40_0000, 4096, W | G)
    tables.map(KERNEL + (2 << 20) + 4096, 0x40_1000, 4096, G)  # not writable
    tables.map(KERNEL + (2 << 20) + 8192, 0x90_0000, 4096, G)  # elsewhere
    assert rows(walk_tables(tables)) == [
        (KERNEL, 0x20_0000, 0x20_1000, W | G),
        (KERNEL + 0x20_1000, 0x40_1000, 0x1000, G),
        (KERNEL + 0x20_2000, 0x90_0000, 0x1000, G),
    ]


def test_virtual_addresses_are_signed_and_sorted() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x1000, 4096, W)
    tables.map(X86.start, 0x3000, 4096, W)
    found = walk_tables(tables)
    assert found.vaddr.tolist() == [-(1 << 47), -0x8000_0000]
    assert found.vaddr.view(np.uint64).tolist() == [0xFFFF_8000_0000_0000, KERNEL]


def test_the_lower_half_is_shown_when_asked_for() -> None:
    tables = Tables(X86)
    tables.map(0x40_0000, 0x1000, 4096, U | X)
    tables.map(0, 0x5000, 4096, U)
    tables.map(TOP - 4096, 0x4000, 4096, U)
    assert rows(walk_tables(tables)) == [(TOP - 4096, 0x4000, 4096, U)]
    assert rows(walk_tables(tables, whole=True)) == [
        (TOP - 4096, 0x4000, 4096, U),  # no run goes round from the kernel's half to the user's
        (0, 0x5000, 4096, U),
        (0x40_0000, 0x1000, 4096, U | X),
    ]


def test_translation_of_what_is_not_mapped() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x1000, 4096, W)
    found = walk_tables(tables)
    for vaddr in (KERNEL - 1, KERNEL + 4096, 0, (1 << 63) - 1, 1 << 63, TOP, -TOP):
        assert found.translate(vaddr) is None, hex(vaddr)
    many = np.array([KERNEL + 5, KERNEL - 1, (1 << 63) - 1], dtype=np.uint64)
    assert found.translate_many(many).tolist() == [0x1005, -1, -1]


def test_no_mapping_at_all() -> None:
    found = walk_tables(Tables(X86))
    assert len(found) == 0
    assert found.translate(KERNEL) is None
    assert found.tables == 1


@pytest.mark.parametrize(
    ("machine", "entry", "want"),
    [
        (X86, 0x8000_0000_0000_1163, (0x1000, W | G)),
        (X86, 0x0000_0000_0000_1161, (0x1000, X | G)),
        (X86, 0x07F0_0000_0000_1065, (0x1000, U | X)),  # bits that software owns, and a key
        (X86, 0x0000_0000_0000_10E1, (0x1000, X)),  # PAT stands where PSE does above
        (X86, 0x0000_0000_0000_1162, None),  # everything but _PAGE_PRESENT
        (X86, 0x0000_0000_0000_1100, None),  # PROT_NONE is _PAGE_GLOBAL without _PAGE_PRESENT
        (arm(4, 48), 0x0068_0000_4000_0703, (0x4000_0000, W | G)),  # PAGE_KERNEL
        (arm(4, 48), 0x0068_0000_4000_0783, (0x4000_0000, W | G)),  # clean, but PTE_WRITE
        (arm(4, 48), 0x0060_0000_4000_0783, (0x4000_0000, G)),  # PAGE_KERNEL_RO
        (arm(4, 48), 0x0040_0000_4000_0F83, (0x4000_0000, X)),  # PXN clear, nG
        (arm(4, 48), 0x0468_0000_4000_0702, None),  # PROT_NONE: PTE_VALID is clear
        (arm(4, 48), 0x0068_0000_4000_0701, None),  # a block where only a page can be
        (arm(64, 48), 0x0068_0000_4000_F703, (0xF_0000_4000_0000, W | G)),  # LPA
        (arm(4, 52), 0x0068_0000_4000_0703, (0xC_0000_4000_0000, W | G)),  # LPA2
        (riscv(39), 0x2000_00E7, (0x8000_0000, W | G)),  # PAGE_KERNEL
        (riscv(39), 0x2000_00EB, (0x8000_0000, X | G)),  # read and execute
        (riscv(39), 0x2000_0009, (0x8000_0000, X)),  # execute only
        (riscv(39), 0x2000_0020, None),  # PROT_NONE is _PAGE_GLOBAL without V
        (riscv(39), 0x2000_00E5, None),  # write without read
        (riscv(39), 0x2000_0001, None),  # a table where only a page can be
        (riscv(39), 0x6000_0000_2000_00E7, (0x8000_0000, W | G)),  # Svpbmt
        (riscv(39), 0x9000_0000_2000_0CE7, (0x8000_3000, W | G)),  # T-Head's, no Svnapot
    ],
)
def test_entries_as_kernels_write_them(
    machine: Machine, entry: int, want: tuple[int, int] | None
) -> None:
    vaddr = TOP - 64 * machine.page
    found = rows(walk_tables(one_entry(machine, vaddr, entry)))
    assert found == ([] if want is None else [(vaddr, want[0], machine.page, want[1])])


def test_the_c_bit_is_no_part_of_an_address() -> None:
    tables = Tables(X86)
    c_bit = 1 << 47
    tables.map(KERNEL, 0x1000 | c_bit, 4096, W)
    tables.map(KERNEL + (2 << 20), 0x20_0000 | c_bit, 2 << 20, W)
    for index in (511,):
        tables.put(tables.root, index, tables.get(tables.root, index) | c_bit)
    found = walk_tables(tables, x86_64(levels=4, sme_mask=c_bit))
    assert [row[1] for row in rows(found)] == [0x1000, 0x20_0000]


def test_a_napot_page_is_sixteen_entries_and_one_run() -> None:
    tables, vaddr = Tables(riscv(39)), TOP - (1 << 30)
    entry = 1 << 63 | (0x8005_0000 | 0x8000) >> 2 | 0xE7
    for page in range(16):
        at = vaddr + page * 4096
        tables.put(tables.descend(at, 2), tables.index(2, at), entry)
    assert rows(walk_tables(tables)) == [(vaddr, 0x8005_0000, 0x1_0000, W | G)]


def test_pat_in_a_large_page_is_no_part_of_its_address() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x20_0000 | 0x1000, 2 << 20, W)
    assert rows(walk_tables(tables)) == [(KERNEL, 0x20_0000, 2 << 20, W)]


def test_what_a_table_denies_holds_for_all_below_it() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x1000, 4096, W | X | U)
    tables.put(tables.root, 511, tables.get(tables.root, 511) & ~0x6 | 1 << 63)
    assert rows(walk_tables(tables)) == [(KERNEL, 0x1000, 4096, 0)]

    tables, vaddr = Tables(arm(4, 39)), TOP - (1 << 30)
    tables.map(vaddr, 0x1000, 4096, W | X | U)
    tables.put(tables.root, 511, tables.get(tables.root, 511) | 0b1101 << 59)
    assert rows(walk_tables(tables)) == [(vaddr, 0x1000, 4096, 0)]


def test_a_table_in_two_places_is_two_ranges() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x1000, 4096, W)
    tables.name(KERNEL + (4 << 20), 2, tables.descend(KERNEL, 3))
    assert rows(walk_tables(tables)) == [
        (KERNEL, 0x1000, 4096, W),
        (KERNEL + (4 << 20), 0x1000, 4096, W),
    ]


def kasan() -> Tables:
    """One page behind one table of each level, 512 times 512 times 512 times."""
    tables = Tables(X86)
    pages, tables.mapped = tables.descend(X86.start, 3), []
    for index in range(512):
        tables.put(pages, index, X86.leaf(0x7000, 0, True))
        tables.put(tables.descend(X86.start, 2), index, X86.table(pages))
        tables.put(tables.descend(X86.start, 1), index, X86.table(tables.descend(X86.start, 2)))
    return tables


def test_a_shadow_of_one_page_is_aliases_and_translates() -> None:
    found = walk_tables(kasan())
    assert found.problems == ()
    assert len(found) == 8 * 512
    assert len(found.aliases) == 504 + (8 * 512 - 8)
    for vaddr in (X86.start, X86.start + (1 << 39) - 1, X86.start + 0x12_3456_7890):
        assert found.translate(vaddr) == 0x7000 + vaddr % 4096
    assert found.translate(X86.start + (1 << 39)) is None


def test_a_table_that_names_itself_or_one_above() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x1000, 4096, W)
    tables.put(tables.root, 300, X86.table(tables.root))
    tables.put(tables.descend(KERNEL, 2), 9, X86.table(tables.root))
    found = walk_tables(tables)
    assert rows(found) == tables.runs()
    assert reasons(found) == {Reason.LOOP: 2}


def test_tables_that_no_input_holds_are_counted() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x1000, 4096, W)
    for index in range(256, 266):
        tables.put(tables.root, index, X86.table(0xF_0000_0000 + index * 4096))
    found = walk_tables(tables)
    assert rows(found) == tables.runs()
    (problem,) = found.problems
    assert (problem.reason, problem.count, len(problem.examples)) == (Reason.UNREADABLE, 10, 3)
    assert problem.examples[0] == (X86.start, 0xF_0010_0000)
    assert str(problem) == (
        "10 tables that no input holds, first at vaddr 0xffff800000000000 (paddr 0xf00100000)"
    )


def test_one_table_that_no_input_holds_is_one() -> None:
    tables = Tables(X86)
    tables.put(tables.root, 256, X86.table(0xF_0000_0000))
    (problem,) = walk_tables(tables).problems
    assert str(problem).startswith("1 table that no input holds, first at vaddr ")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_for_one(reason: Reason) -> None:
    one, two = (str(Problem(reason, count, ((0, 0),))) for count in (1, 2))
    assert one.removeprefix("1 ") != two.removeprefix("2 ")


def test_a_root_that_no_input_holds() -> None:
    found = walk(X86_FORMAT, 0x1000, Tables(X86).read_tables)
    assert len(found) == 0
    assert reasons(found) == {Reason.UNREADABLE: 1}


@pytest.mark.parametrize("root", [-4096, 0x1001, 1 << 56, 1 << 64])
def test_a_root_that_cannot_be(root: int) -> None:
    with pytest.raises(FormatError, match="no page table can be at"):
        walk(X86_FORMAT, root, Tables(X86).read_tables)


def test_large_pages_that_no_cpu_takes() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x20_2000, 2 << 20, W)  # not aligned
    tables.put(tables.root, 256, 0x80 | X86.table(0x1000))  # no CPU has pages of 512 GiB
    found = walk_tables(tables)
    assert len(found) == 0
    assert reasons(found) == {Reason.RESERVED: 1, Reason.MISALIGNED: 1}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_all_ones(machine: Machine) -> None:
    tables = Tables(machine)
    tables.memory[:] = b"\xff" * len(tables.memory)
    found = walk_tables(tables)
    assert len(found) == 0
    assert bool(found.problems) == (not machine.empty)  # else all are not in use


def test_the_limits_end_a_walk_with_a_reason() -> None:
    tables = Tables(X86)
    for number in range(20):
        tables.map(KERNEL + (number << 21), 0x1000 * number, 4096, W)
    found = walk_tables(tables, limits=Limits(tables=13))
    assert found.tables == 13
    assert rows(found) == tables.runs()[:10]
    assert reasons(found) == {Reason.TOO_MANY_TABLES: 10 - 3 + 3}
    found = walk_tables(tables, limits=Limits(runs=7))
    assert rows(found) == tables.runs()[:7]
    assert reasons(found) == {Reason.TOO_MANY_RUNS: 13}


def test_formats_that_there_are_not() -> None:
    with pytest.raises(UnsupportedError, match="of 3 levels, expected 4 or 5"):
        x86_64(levels=3)
    with pytest.raises(UnsupportedError, match="pages of 8192 bytes"):
        arm64(page_size=8192, va_bits=48)
    with pytest.raises(UnsupportedError, match="addresses of 53 bits"):
        arm64(page_size=4096, va_bits=53)
    with pytest.raises(UnsupportedError, match="addresses of 40 bits"):
        riscv64(va_bits=40)


def test_the_root_is_where_vmcoreinfo_says() -> None:
    def locate(machine: int, text: str) -> tuple[str, int]:
        lines = text.replace(" ", "\n").encode()
        fmt, root = locate_page_tables(machine, parse_vmcoreinfo(lines))
        return fmt.name, root

    assert locate(
        62,
        "SYMBOL(swapper_pg_dir)=ffffffffbd210000 NUMBER(phys_base)=-526385152"
        " NUMBER(pgtable_l5_enabled)=1 NUMBER(sme_mask)=0",
    ) == ("x86-64, 5 levels", 0x1DC1_0000)
    # a kernel for 52 bits on a CPU without LPA2
    assert locate(
        183,
        "PAGESIZE=4096 SYMBOL(swapper_pg_dir)=ffff800081f4d000 NUMBER(VA_BITS)=52"
        " NUMBER(kimage_voffset)=0xffff800040000000 NUMBER(TCR_EL1_T1SZ)=0x10",
    ) == ("arm64, 4 KiB pages, 48 bits", 0x41F4_D000)
    assert locate(
        183,
        "PAGESIZE=65536 SYMBOL(swapper_pg_dir)=ffff800081f40000 NUMBER(VA_BITS)=52"
        " NUMBER(kimage_voffset)=0xffff800040000000 NUMBER(TCR_EL1_T1SZ)=0x10",
    ) == ("arm64, 64 KiB pages, 52 bits", 0x41F4_0000)
    assert locate(
        243,
        "SYMBOL(swapper_pg_dir)=ffffffff81a00000 NUMBER(VA_BITS)=48"
        " NUMBER(va_kernel_pa_offset)=0xfffffffeffe00000",
    ) == ("riscv64, Sv48", 0x81C0_0000)
    with pytest.raises(FormatError, match=r"NUMBER\(phys_base\) is None, expected a number"):
        locate(62, "SYMBOL(swapper_pg_dir)=ffffffffbd210000")
    assert locate(
        21, "PAGESIZE=65536 SYMBOL(swapper_pg_dir)=c000000002750000 NUMBER(RADIX_MMU)=1"
    ) == ("ppc64 radix, 64 KiB pages", 0x275_0000)
    with pytest.raises(UnsupportedError, match="no radix tree"):  # a hash page table
        locate(21, "PAGESIZE=65536 SYMBOL(swapper_pg_dir)=c000000002750000 NUMBER(RADIX_MMU)=0")
    assert locate(
        22, "SYMBOL(swapper_pg_dir)=3fffff40000 KERNELOFFSET=3fffe7f8000 KERNELOFFPHYS=8f8000"
    ) == ("s390x, 3 levels", 0x204_0000)
    assert locate(
        22, "SYMBOL(swapper_pg_dir)=1fffffff40000 KERNELOFFSET=1fffffe7f8000 KERNELOFFPHYS=8f8000"
    ) == ("s390x, 4 levels", 0x204_0000)
    with pytest.raises(FormatError, match="KERNELOFFSET is None"):  # before 6.10
        locate(22, "SYMBOL(swapper_pg_dir)=1a00000")
    with pytest.raises(UnsupportedError, match="machine 258"):
        locate(258, "")


def test_tables_are_read_through_memory() -> None:
    tables = Tables(X86)
    tables.map(KERNEL, 0x1000, 4096, W)
    tables.put(tables.root, 256, X86.table(0x8000_0000))
    held = make_ranges([(tables.base, tables.base + len(tables.memory) - 4096)])
    data = make_extents(held, kind=Kind.DATA, source=0)
    hole = make_extents(make_ranges([(0x8000_0000, 0x8000_1000)]), kind=Kind.HOLE)
    source = BytesSource("ram", bytes(tables.memory))
    memory = Reader("memory", merge(data, hole), [source])
    found = walk(X86_FORMAT, tables.root, table_reader(memory, X86_FORMAT))
    assert len(found) == 0
    assert reasons(found) == {Reason.UNREADABLE: 2}  # one is not RAM, one is behind the image
