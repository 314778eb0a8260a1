"""``struct page`` arrays by hand, with fields where Debian's kernels tell that they have them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from tests.builders.kernels import MIB, X86, DeadKernel, Span, make_kernel
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.pages.page_kinds import Structs
from vmcorefs.core.pages.struct_page import StructPage, read_struct_page

SIZE: Final = 64
"""Of the structure, in bytes."""

_SAME: Final = {
    "SIZE(page)": "64",
    "OFFSET(page.flags)": "0",
    "OFFSET(page._refcount)": "52",
    "OFFSET(page.mapping)": "24",
    "OFFSET(page.lru)": "8",
    "OFFSET(page._mapcount)": "48",
    "OFFSET(page.private)": "40",
    "OFFSET(page.compound_head)": "8",
    "LENGTH(zone.free_area)": "11",
}

TOLD: Final = {
    # Debian's 6.1.0-56-cloud-amd64
    "6.1": {
        "OSRELEASE": "6.1.0-56-cloud-amd64",
        **_SAME,
        "OFFSET(page.compound_dtor)": "16",
        "OFFSET(page.compound_order)": "17",
        "NUMBER(PG_lru)": "4",
        "NUMBER(PG_private)": "13",
        "NUMBER(PG_swapcache)": "10",
        "NUMBER(PG_swapbacked)": "19",
        "NUMBER(PG_slab)": "9",
        "NUMBER(PG_head_mask)": "65536",
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": "-129",
        "NUMBER(HUGETLB_PAGE_DTOR)": "2",
        "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)": "-257",
    },
    # Debian's 6.12.117+deb12-cloud-amd64, and PAGE_UNACCEPTED_MAPCOUNT_VALUE of 6.15
    "6.12": {
        "OSRELEASE": "6.12.117+deb12-cloud-amd64",
        **_SAME,
        "NUMBER(PG_lru)": "5",
        "NUMBER(PG_private)": "14",
        "NUMBER(PG_swapcache)": "10",
        "NUMBER(PG_swapbacked)": "17",
        "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": "-184549376",
        "NUMBER(PG_hwpoison)": "20",
        "NUMBER(PG_head_mask)": "64",
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": "-268435456",
        "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": "-201326592",
        "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)": "-251658240",
        "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)": "-117440512",
    },
}
"""What a kernel's VMCOREINFO tells of ``struct page``."""

Series = Literal["6.1", "6.12"]

LRU: Final = {"6.1": 1 << 4, "6.12": 1 << 5}
PRIVATE: Final = {"6.1": 1 << 13, "6.12": 1 << 14}
SWAPCACHE: Final = {"6.1": 1 << 10 | 1 << 19, "6.12": 1 << 10 | 1 << 17}
HEAD: Final = {"6.1": 1 << 16, "6.12": 1 << 6}
POISON: Final = 1 << 20
FREE: Final = {"6.1": 0xFFFFFF7F, "6.12": 0xF0000000}
OFFLINE: Final = {"6.1": 0xFFFFFEFF, "6.12": 0xF1000000}
HUGETLB: Final = 0xF4000000
SLAB: Final = 0xF5000000
UNACCEPTED: Final = 0xF9000000
NOT_MAPPED: Final = 0xFFFFFFFF
FILE, ANON = 0xFFFF888001000000, 0xFFFF888002000001


def layout_of(
    told: dict[str, str],
    *,
    btf: bytes | None = None,
    byte_order: ByteOrder = "<",
    page_size: int = 4096,
) -> StructPage:
    """How a kernel's structure is read that tells these keys, and has this BTF."""
    text = "".join(f"{key}={value}\n" for key, value in told.items() if value)
    text += f"PAGESIZE={page_size}\n"
    return read_struct_page(parse_vmcoreinfo(text.encode()), byte_order, 8, lambda: btf)


@dataclass
class PageArray:
    """The structures of some pages in a row.

    Attributes:
        series: Of the kernel.
        count: How many pages.
        first: Number of the first one.
        data: The structures, zeros at first: a page that is nobody's.
    """

    series: Series
    count: int
    first: int = 0
    data: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.data = bytearray(SIZE * (self.count + 1))
        for pfn in range(self.first, self.first + self.count):
            self.put(pfn)

    @property
    def structs(self) -> Structs:
        """As ``read_structs`` takes them."""
        return np.frombuffer(bytes(self.data), dtype=np.uint8).reshape(-1, SIZE)

    def put(
        self,
        pfn: int,
        *,
        flags: int = 0,
        mapping: int = 0,
        mapcount: int = NOT_MAPPED,
        private: int = 0,
        tail: bool = False,
    ) -> None:
        """Write one structure."""
        head = 0xFFFFEA0000000000 + pfn * SIZE | 1 if tail else 0xDEAD000000000100
        struct.pack_into(
            "<QQQQQQII",
            self.data,
            SIZE * (pfn - self.first),
            *(flags, head, 0, mapping, 0, private, mapcount, 0),
        )

    def free(self, pfn: int, order: int) -> None:
        """``2**order`` free pages; those behind the first are nobody's."""
        self.put(pfn, mapcount=FREE[self.series], private=order)

    def compound(
        self, pfn: int, order: int, *, flags: int = 0, mapping: int = 0, huge: bool = False
    ) -> None:
        """A compound page, of hugetlbfs or not."""
        mapcount = HUGETLB if huge and self.series == "6.12" else NOT_MAPPED
        self.put(pfn, flags=flags | HEAD[self.series], mapping=mapping, mapcount=mapcount)
        for tail in range(pfn + 1, pfn + (1 << order)):
            self.put(tail, tail=True)
        self.set_order(pfn, order, huge=huge)

    def set_compound_info(self, pfn: int, value: int) -> None:
        """What a tail of Linux 7.1 has in place of its head's address."""
        struct.pack_into("<Q", self.data, SIZE * (pfn - self.first) + 8, value % 2**64)

    def set_order(self, pfn: int, order: int, *, huge: bool = False) -> None:
        """What the structure behind the head's tells of a compound page."""
        behind = SIZE * (pfn + 1 - self.first)
        if self.series == "6.1":  # compound_dtor, compound_order
            self.data[behind + 16 : behind + 18] = bytes((2 if huge else 1, order))
        else:  # the low byte of the flags; PG_large_rmappable is another bit there
            self.data[behind : behind + 2] = bytes((order, 2))


SECTION: Final = 1 << 15
"""Pages in a section."""

MEM_SECTION, SECTIONS, ARRAY = 8 * MIB, 8 * MIB + 0x10000, 32 * MIB
"""Where ``with_page_array`` puts the table of roots, the one root, and the arrays."""


def with_page_array(
    pages: PageArray, ram: tuple[Span, ...], *, vmemmap: int | None = None
) -> DeadKernel:
    """A dead x86-64 kernel whose page array says what ``pages`` does.

    Args:
        pages: From page 0 on, whole sections.
        ram: System RAM.
        vmemmap: Where the array is mapped: the direct map by default, each section apart; or there,
            all of it but its third page, which is not mapped.
    """
    assert pages.first == pages.count % SECTION == 0
    sparse = {
        "SYMBOL(mem_section)": f"{X86.direct + MEM_SECTION:x}",
        "LENGTH(mem_section)": "2048",
        "SIZE(mem_section)": "16",
        "OFFSET(mem_section.section_mem_map)": "0",
        "NUMBER(SECTION_SIZE_BITS)": "27",
        "NUMBER(MAX_PHYSMEM_BITS)": "46",
    }
    told = sparse | TOLD[pages.series]
    told.pop("OSRELEASE")
    kernel = make_kernel(ram=ram, release=TOLD[pages.series]["OSRELEASE"], told=told)
    size = SECTION * SIZE
    maps = []
    for number in range(pages.count // SECTION):
        # the last section's array comes first
        at = ARRAY + size * (pages.count // SECTION - 1 - number)
        base = X86.direct + at - number * size if vmemmap is None else vmemmap
        maps.append(base % (1 << 64) | 0xF)
        kernel.put(at, bytes(pages.data[number * size : (number + 1) * size]))
        if vmemmap is not None:
            for page in range(0, size, 4096):
                if number * size + page != 2 * 4096:
                    kernel.tables.map(vmemmap + number * size + page, at + page, 4096, 2)
    kernel.put(MEM_SECTION, struct.pack("<Q", X86.direct + SECTIONS).ljust(2048 * 8, b"\0"))
    kernel.put(
        SECTIONS, b"".join(struct.pack("<QQ", value, 0) for value in maps).ljust(4096, b"\0")
    )
    # the tables have grown
    kernel.put(kernel.tables.base, bytes(kernel.tables.memory))
    return kernel
