"""RAM out of e820 tables, memblock and mem_section, as they lie in a kernel's memory."""

from __future__ import annotations

import struct

import pytest

from tests.builders.kernels import virtual
from tests.matching import exactly
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.maps.e820 import read_boot_params, read_e820_table
from vmcorefs.core.maps.memblock import read_memblock
from vmcorefs.core.maps.memory_map import MemoryMap, format_iomem
from vmcorefs.core.structures.mem_section import read_sections
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FaultError, FormatError

MIB = 1 << 20
AT, TABLE = 0xFFFFFFFF82000000, 0xFFFF888000100000

Entry = tuple[int, int, int]
"""start, size, type"""


def boot_params(entries: list[Entry], count: int | None = None) -> MemoryMap:
    page = bytearray(4096)
    page[0x1E8] = len(entries) if count is None else count
    for row, entry in enumerate(entries):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * row, *entry)
    return read_boot_params(virtual({AT: page}), AT)


def e820_table(entries: list[Entry], count: int | None = None) -> MemoryMap:
    data = struct.pack("<I", len(entries) if count is None else count)
    data += b"".join(struct.pack("<QQI", *entry) for entry in entries)
    return read_e820_table(virtual({AT: struct.pack("<Q", TABLE), TABLE: data}), AT)


class TestE820:
    def test_what_the_kernel_made_of_it(self) -> None:
        found = e820_table([(0x1000, 0x9EC00, 1), (0x9FC00, 0x60400, 2), (MIB, 63 * MIB, 1)])
        assert format_iomem(found) == (
            "00001000-0009fbff : System RAM\n"
            "0009fc00-000fffff : Reserved\n"
            "00100000-03ffffff : System RAM\n"
        )

    def test_what_firmware_gave_without_what_the_kernel_always_takes(self) -> None:
        found = boot_params([(0, 0x9FC00, 1), (0xF0000, 0x20000, 1), (MIB + 0x20000, MIB, 1)])
        assert found.ram.tolist() == [
            [0x1000, 0x9FC00],
            [0x100000, 0x110000],
            [0x120000, 0x220000],
        ]

    def test_the_kernels_own_data_is_ram(self) -> None:
        found = e820_table([(MIB, MIB, 1), (2 * MIB, 0x1000, 128), (2 * MIB + 0x1000, MIB, 1)])
        assert found.ram.tolist() == [[MIB, 3 * MIB + 0x1000]]

    def test_the_words_of_the_kernel(self) -> None:
        kinds = [1, 2, 3, 4, 5, 7, 12, 0xEFFFFFFF, 99]
        found = e820_table([(MIB * row, MIB, kind) for row, kind in enumerate(kinds)])
        assert [region.name for region in found.regions] == [
            "System RAM",
            "Reserved",
            "ACPI Tables",
            "ACPI Non-volatile Storage",
            "Unusable memory",
            "Persistent Memory",
            "Persistent Memory (legacy)",
            "Soft Reserved",
            "Unknown E820 type",
        ]

    def test_entries_in_any_order_and_empty_ones(self) -> None:
        found = e820_table([(4 * MIB, MIB, 1), (0, 0, 1), (MIB, MIB, 1), (2**64 - 1, 0, 2)])
        assert found.ram.tolist() == [[MIB, 2 * MIB], [4 * MIB, 5 * MIB]]

    @pytest.mark.parametrize("count", [0, 129, 255])
    def test_an_absurd_count_of_firmwares(self, count: int) -> None:
        message = f"boot_params: {count} e820 entries, expected 1 to 128"
        with pytest.raises(FormatError, match=exactly(message)):
            boot_params([(MIB, MIB, 1)], count)

    @pytest.mark.parametrize("count", [0, 3201, 2**32 - 1])
    def test_an_absurd_count_of_the_kernels(self, count: int) -> None:
        message = f"e820_table: {count} entries, expected 1 to 3200"
        with pytest.raises(FormatError, match=exactly(message)):
            e820_table([(MIB, MIB, 1)], count)

    def test_a_count_of_more_than_there_are(self) -> None:
        with pytest.raises(FaultError):
            e820_table([(MIB, MIB, 1)], 2)

    @pytest.mark.parametrize(("start", "size"), [(2**64 - 1, 1), (0, 2**64 - 1), (2**62, 1)])
    def test_an_entry_beyond_all_memory(self, start: int, size: int) -> None:
        message = f"e820_table: an entry of {size:#x} bytes at {start:#x}"
        with pytest.raises(FormatError, match=exactly(message)):
            e820_table([(start, size, 1)])

    def test_entries_that_overlap_are_refused(self) -> None:
        with pytest.raises(FormatError, match="overlaps"):
            e820_table([(MIB, 2 * MIB, 1), (2 * MIB, MIB, 2)])


LAYOUTS = {
    "memblock": Struct("memblock", 96, {"memory": 16}),
    "memblock_type": Struct("memblock_type", 40, {"cnt": 0, "max": 8, "regions": 24}),
    "memblock_region": Struct("memblock_region", 24, {"base": 0, "size": 8, "flags": 16}),
}


def memblock(
    regions: list[tuple[int, int]], count: int | None = None, layouts: dict[str, Struct] = LAYOUTS
) -> MemoryMap:
    count = len(regions) if count is None else count
    head = bytes(16) + struct.pack("<5Q", count, 128, 0, TABLE, 0)
    rows = b"".join(struct.pack("<QQQ", start, size, 5) for start, size in regions)
    return read_memblock(virtual({AT: head, TABLE: rows}), AT, layouts)


class TestMemblock:
    def test_regions_that_differ_in_their_node_alone_are_one_range(self) -> None:
        found = memblock([(0x40000000, 0x20000000), (0x60000000, 0x20000000), (1 << 33, MIB)])
        assert found.dialect == "memblock"
        assert format_iomem(found) == (
            "40000000-7fffffff : System RAM\n200000000-2000fffff : System RAM\n"
        )

    @pytest.mark.parametrize("count", [0, (1 << 16) + 1, 2**64 - 1])
    def test_an_absurd_count(self, count: int) -> None:
        message = f"memblock: {count} regions, expected 1 to 65536"
        with pytest.raises(FormatError, match=exactly(message)):
            memblock([(MIB, MIB)], count)

    @pytest.mark.parametrize(
        ("start", "size"), [(MIB, 0), (0, 2**64 - 1), (2**64 - 4096, 4096), (2**62, 1), (2**63, 1)]
    )
    def test_a_region_beyond_all_memory(self, start: int, size: int) -> None:
        message = f"memblock: a region of {size:#x} bytes at {start:#x}"
        with pytest.raises(FormatError, match=exactly(message)):
            memblock([(start, size)])

    @pytest.mark.parametrize("size", [0, 1 << 30])
    def test_a_size_that_no_structure_has(self, size: int) -> None:
        layouts = LAYOUTS | {
            "memblock_region": Struct("memblock_region", size, {"base": 0, "size": 8})
        }
        with pytest.raises(FormatError, match=f"memblock_region has {size} bytes"):
            memblock([(MIB, MIB)], layouts=layouts)

    def test_btf_without_a_member(self) -> None:
        layouts = LAYOUTS | {"memblock": Struct("memblock", 96, {})}
        with pytest.raises(FormatError, match="struct memblock has no memory"):
            memblock([(MIB, MIB)], layouts=layouts)


SECTIONS = {
    "SYMBOL(mem_section)": f"{AT:x}",
    "LENGTH(mem_section)": "4",
    "SIZE(mem_section)": "32",
    "OFFSET(mem_section.section_mem_map)": "8",
    "NUMBER(SECTION_SIZE_BITS)": "27",
    "NUMBER(MAX_PHYSMEM_BITS)": "36",
    "PAGESIZE": "4096",
}
"""4 roots of 128 sections of 128 MiB."""
SECTION = 128 * MIB


def sections(present: dict[int, list[int]], **told: str) -> list[list[int]]:
    """``present``: root to the sections of it that have memory."""
    pointers = bytearray(32)
    blocks: dict[int, bytes | bytearray] = {AT: pointers}
    for root, numbers in present.items():
        struct.pack_into("<Q", pointers, 8 * root, TABLE + 4096 * root)
        page = bytearray(4096)
        for number in numbers:
            struct.pack_into("<QQ", page, 32 * number, 0, 0xFFFFEA0000000000 | 0x1F)
        blocks[TABLE + 4096 * root] = page
    values = SECTIONS | {key.replace("__", "(") + ")": value for key, value in told.items()}
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    found: list[list[int]] = read_sections(
        parse_vmcoreinfo(text.encode()), virtual(blocks)
    ).tolist()
    return found


class TestSections:
    def test_sections_that_are_present(self) -> None:
        assert sections({0: [0, 1, 7], 3: [127]}) == [
            [0, 2 * SECTION],
            [7 * SECTION, 8 * SECTION],
            [511 * SECTION, 512 * SECTION],
        ]
        assert sections({}) == []

    def test_a_section_that_is_not_marked_present(self) -> None:
        blocks: dict[int, bytes | bytearray] = {
            AT: struct.pack("<4Q", TABLE, 0, 0, 0),
            TABLE: struct.pack("<QQQQ", 1, 0xFFFFEA0000000000 | 0x1E, 1, 1).ljust(4096, b"\0"),
        }
        text = "".join(f"{key}={value}\n" for key, value in SECTIONS.items())
        assert read_sections(parse_vmcoreinfo(text.encode()), virtual(blocks)).tolist() == []

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("LENGTH__mem_section", "5"),
            ("LENGTH__mem_section", "9999999999999999999"),
            ("SIZE__mem_section", "8"),
            ("SIZE__mem_section", "65535"),
            ("OFFSET__mem_section.section_mem_map", "25"),
            ("NUMBER__SECTION_SIZE_BITS", "-27"),
            ("NUMBER__SECTION_SIZE_BITS", "99999999999999999999"),
            ("NUMBER__MAX_PHYSMEM_BITS", "-1"),
            ("NUMBER__MAX_PHYSMEM_BITS", "64"),
            ("NUMBER__MAX_PHYSMEM_BITS", "99999999999"),
            ("NUMBER__MAX_PHYSMEM_BITS", "99999999999999999999"),
        ],
    )
    def test_numbers_that_cannot_be_true(self, key: str, value: str) -> None:
        with pytest.raises(FormatError, match=r"^VMCOREINFO: "):
            sections({0: [0]}, **{key: value})

    def test_sections_at_addresses_beyond_all_memory(self) -> None:
        """2**26 sections of 2**47 bytes are above 2**63."""
        with pytest.raises(FormatError, match=r"^VMCOREINFO: "):
            sections(
                {0: [0]},
                LENGTH__mem_section="524288",
                NUMBER__SECTION_SIZE_BITS="47",
                NUMBER__MAX_PHYSMEM_BITS="73",
            )

    def test_a_root_that_is_not_mapped(self) -> None:
        blocks: dict[int, bytes | bytearray] = {AT: struct.pack("<4Q", 0, 0, 1, 0)}
        text = "".join(f"{key}={value}\n" for key, value in SECTIONS.items())
        with pytest.raises(FaultError):
            read_sections(parse_vmcoreinfo(text.encode()), virtual(blocks))
