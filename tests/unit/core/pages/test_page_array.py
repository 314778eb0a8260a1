"""Where page arrays are, in every memory model."""

from __future__ import annotations

import struct

import pytest

from tests.builders.kernels import virtual
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.pages.page_array import find_page_array
from vmcorefs.errors import FormatError

AT, ROOT, NODE = 0xFFFF888000001000, 0xFFFF888000010000, 0xFFFF888000100000
VMEMMAP = 0xFFFFEA0000000000
HAS_MEM_MAP, PRESENT = 2, 1

Row = tuple[int, int, int]
"""First page, how many, and where the first one's structure is."""

SPARSE = {
    "SYMBOL(mem_section)": f"{AT:x}",
    "SIZE(mem_section)": "16",
    "OFFSET(mem_section.section_mem_map)": "0",
    "NUMBER(SECTION_SIZE_BITS)": "27",
    "SIZE(page)": "64",
    "PAGESIZE": "4096",
}
NODES = {
    "SIZE(page)": "56",
    "PAGESIZE": "4096",
    "OFFSET(pglist_data.node_mem_map)": "8",
    "OFFSET(pglist_data.node_start_pfn)": "16",
    "OFFSET(pglist_data.node_spanned_pages)": "24",
}


def rows(told: dict[str, str], blocks: dict[int, bytes | bytearray]) -> list[Row]:
    text = "".join(f"{key}={value}\n" for key, value in told.items())
    found = find_page_array(parse_vmcoreinfo(text.encode()), virtual(blocks))
    columns = (found.pfn, found.count, found.vaddr)
    return [(p, n, v % 2**64) for p, n, v in zip(*(c.tolist() for c in columns), strict=True)]


def sections(*maps: int) -> bytes:
    return b"".join(struct.pack("<QQ", value, 0) for value in maps)


def test_sparse_extreme_with_vmemmap() -> None:
    told = SPARSE | {"LENGTH(mem_section)": "2", "NUMBER(MAX_PHYSMEM_BITS)": "36"}
    blocks: dict[int, bytes | bytearray] = {
        AT: struct.pack("<QQ", ROOT, ROOT + 4096),
        ROOT: sections(VMEMMAP | 0x1F, VMEMMAP | 0x1F, 0, VMEMMAP | PRESENT).ljust(4096, b"\0"),
        ROOT + 4096: sections(VMEMMAP | HAS_MEM_MAP | PRESENT).ljust(4096, b"\0"),
    }
    assert rows(told, blocks) == [
        (0, 32768, VMEMMAP),
        (32768, 32768, VMEMMAP + (2 << 20)),
        (256 * 32768, 32768, VMEMMAP + (512 << 20)),
    ]


def test_sparse_without_extreme_and_without_vmemmap() -> None:
    """A section's array is anywhere: what is stored is less by the pages before it."""
    told = SPARSE | {"LENGTH(mem_section)": "4", "NUMBER(MAX_PHYSMEM_BITS)": "29"}
    array = 0xFFFF888004000000
    blocks: dict[int, bytes | bytearray] = {
        AT: sections(0, (array - 32768 * 64) | 3, 0, (array + 0x300000 - 3 * 32768 * 64) | 3)
    }
    assert rows(told, blocks) == [(32768, 32768, array), (98304, 32768, array + 0x300000)]


def test_nodes() -> None:
    told = NODES | {"SYMBOL(node_data)": f"{AT:x}", "LENGTH(node_data)": "3"}
    blocks: dict[int, bytes | bytearray] = {
        AT: struct.pack("<3Q", NODE + 4096, 0, NODE),
        NODE: struct.pack("<4Q", 0, ROOT, 0, 4096),
        NODE + 4096: struct.pack("<4Q", 0, ROOT + 0x100000, 8192, 100),
    }
    assert rows(told, blocks) == [(0, 4096, ROOT), (8192, 100, ROOT + 0x100000)]


def test_flat_memory_that_does_not_begin_at_0() -> None:
    told = NODES | {"SYMBOL(contig_page_data)": f"{NODE:x}"}
    assert rows(told, {NODE: struct.pack("<4Q", 0, ROOT, 0x80000, 16)}) == [(0x80000, 16, ROOT)]


def test_a_node_without_memory() -> None:
    told = NODES | {"SYMBOL(contig_page_data)": f"{NODE:x}"}
    assert rows(told, {NODE: struct.pack("<4Q", 0, 0, 0, 16)}) == []


@pytest.mark.parametrize(
    ("told", "nodes", "message"),
    [
        (
            {"LENGTH(node_data)": "99999"},
            [(ROOT, 0, 1), (ROOT, 1, 1)],
            "node_data. is 99999",
        ),
        ({}, [(ROOT, 0, 8), (ROOT, 7, 8)], "nodes overlap at page 0x7"),
        ({}, [(ROOT, 1 << 50, 8), (ROOT, 7, 8)], "0x8 pages from 0x4000000000000"),
        ({}, [(ROOT, 0, 1 << 60), (ROOT, 7, 8)], "0x1000000000000000 pages from 0x0"),
    ],
)
def test_nodes_that_cannot_be(
    told: dict[str, str], nodes: list[tuple[int, int, int]], message: str
) -> None:
    keys = NODES | {"SYMBOL(node_data)": f"{AT:x}", "LENGTH(node_data)": "2"} | told
    blocks: dict[int, bytes | bytearray] = {AT: struct.pack("<2Q", NODE, NODE + 4096)}
    for number, node in enumerate(nodes):
        blocks[NODE + 4096 * number] = struct.pack("<4Q", 0, *node)
    with pytest.raises(FormatError, match=message):
        rows(keys, blocks)


def test_nothing_tells() -> None:
    with pytest.raises(FormatError, match="node_mem_map"):
        rows({"SIZE(page)": "64"}, {})
