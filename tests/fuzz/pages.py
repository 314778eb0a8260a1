"""The page array: where it is, how it is read, and what it says of pages."""

from __future__ import annotations

import struct
from functools import partial

import numpy as np

from tests.builders.btf import ENUM, Writer
from tests.builders.pages import ANON, FILE, LRU, SIZE, TOLD, PageArray, Series, layout_of
from tests.fuzz.memory import pack, prefixed, split, unpack
from tests.fuzz.target import target
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.pages.dump_level import PageKind, left_out
from vmcorefs.core.pages.page_array import find_page_array
from vmcorefs.core.pages.page_kinds import read_structs, spread
from vmcorefs.core.pages.struct_page import read_struct_page
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.pages import KernelPages

ZEROS = 1  # lie outside of the blocks; see tests.fuzz.memory
MEM_SECTION, ROOT, ARRAY = 0xFFFF888000001000, 0xFFFF888000010000, 0xFFFF888000100000
NODE = 0xFFFF888000200000


def _text(told: dict[str, str]) -> bytes:
    return "".join(f"{key}={value}\n" for key, value in told.items() if value).encode()


SPARSE = {
    "SYMBOL(mem_section)": f"{MEM_SECTION:x}",
    "LENGTH(mem_section)": "2048",
    "SIZE(mem_section)": "16",
    "OFFSET(mem_section.section_mem_map)": "0",
    "NUMBER(SECTION_SIZE_BITS)": "27",
    "NUMBER(MAX_PHYSMEM_BITS)": "46",
}
FLAT = {
    "SYMBOL(contig_page_data)": f"{NODE:x}",
    "OFFSET(pglist_data.node_mem_map)": "0",
    "OFFSET(pglist_data.node_start_pfn)": "8",
    "OFFSET(pglist_data.node_spanned_pages)": "16",
}


def _array(series: Series) -> bytes:
    pages = PageArray(series, 32)
    pages.free(16, 3)
    pages.compound(8, 3, flags=LRU[series], mapping=ANON)
    pages.compound(24, 3, mapping=FILE, huge=True)
    pages.put(3, flags=LRU[series], mapping=FILE)
    return bytes(pages.data)


def _sparse(series: Series, outside: int = 0, **changed: str) -> bytes:
    told = SPARSE | TOLD[series] | {key.replace("__", "(") + ")": v for key, v in changed.items()}
    blocks = {
        MEM_SECTION: struct.pack("<2Q", ROOT, 0).ljust(2048 * 8, b"\0"),
        ROOT: struct.pack("<4Q", ARRAY | 0xF, 0, ARRAY - 4 | 0xF, 0).ljust(4096, b"\0"),
        ARRAY: _array(series),
    }
    return pack(_text(told), blocks, outside)


def _flat(start: int = 0x80000, count: int = 32) -> bytes:
    blocks = {NODE: struct.pack("<3Q", ARRAY, start, count), ARRAY: _array("6.1")}
    return pack(_text(FLAT | TOLD["6.1"]), blocks)


def _read_into(memory: KernelMemory, vaddr: int, buffer: memoryview) -> list[tuple[int, int]]:
    try:
        buffer[:] = memory.read(vaddr, len(buffer))
    except VmcorefsError:
        return [(0, len(buffer))] if len(buffer) <= PAGE_SIZE else _halves(memory, vaddr, buffer)
    return []


def _halves(memory: KernelMemory, vaddr: int, buffer: memoryview) -> list[tuple[int, int]]:
    half = len(buffer) // 2
    found = _read_into(memory, vaddr, buffer[:half])
    return found + [
        (half + low, half + high) for low, high in _read_into(memory, vaddr + half, buffer[half:])
    ]


@target(
    "page-array",
    valid=[_sparse("6.1"), _sparse("6.12"), _flat()],
    nasty=[
        _sparse("6.12", ZEROS),
        _sparse("6.12", 255),  # all sections are there, and all structures are full of ones
        _sparse("6.1", 255, NUMBER__SECTION_SIZE_BITS="20", LENGTH__mem_section="262144"),
        _sparse("6.1", 4, LENGTH__mem_section="524288"),
        _flat(1 << 43, 1 << 43),
        _flat(0, (1 << 44) - 1),
        _flat(1 << 63, 1),
    ],
)
def _page_array(data: bytes) -> None:
    vmcoreinfo, memory = unpack(data)
    array = find_page_array(vmcoreinfo, memory)
    assert (array.count > 0).all()
    assert (array.pfn >= 0).all()
    assert (array.pfn[1:] >= (array.pfn + array.count)[:-1]).all()
    layout = read_struct_page(vmcoreinfo, "<", 8, lambda: None)
    pages = KernelPages(array, layout, partial(_read_into, memory))
    for first in (0, *array.pfn[:1].tolist(), *array.pfn[-1:].tolist()):
        kinds = pages.of(first, 40)
        assert len(kinds) == 40
        assert kinds.max() <= max(PageKind)
        assert PageKind.ZERO not in kinds


def _btf(*enumerators: tuple[str, int]) -> bytes:
    btf = Writer()
    btf.add_struct("page", 64, [("flags", 0, 0), ("mapping", 0, 192), ("_mapcount", 0, 384)])
    tail = [word for name, value in enumerators for word in (btf.name(name), value)]
    btf.add(ENUM, "pageflags", 4, tail, len(enumerators))
    return btf.finish()


@target(
    "struct-page",
    valid=[
        prefixed(_text(TOLD["6.1"]), b""),
        prefixed(_text(TOLD["6.12"]), b""),
        prefixed(
            b"SIZE(page)=64\nOFFSET(page.flags)=0\nOFFSET(page.private)=40\nOSRELEASE=6.15.0\n",
            _btf(("PG_lru", 5), ("PG_head", 6), ("PG_private", 14), ("PGTY_buddy", 0xF0)),
        ),
    ],
    nasty=[
        prefixed(b"SIZE(page)=8\nOFFSET(page.flags)=0\n", _btf(("PG_lru", 2**32 - 1))),
        prefixed(_text(TOLD["6.1"] | {"SIZE(page)": "1024"}), b"\x9f\xeb"),
    ],
)
def _struct_page(data: bytes) -> None:
    told, btf = split(data)
    vmcoreinfo, _ = unpack(told + b"\0")
    orders: tuple[ByteOrder, ...] = ("<",) if btf else ("<", ">")
    for byte_order in orders:
        layout = read_struct_page(vmcoreinfo, byte_order, 8, lambda: btf or None)
        structs = np.full((9, layout.size), 0xA5, dtype=np.uint8)
        structs[::2] = 0xFF
        assert len(spread(read_structs(structs, 8, layout))) == 8


@target(
    "page-kinds",
    valid=[_array("6.12"), _array("6.12")[:-SIZE], bytes(SIZE * 16), b""],
    nasty=[b"\xff" * SIZE * 64, (_array("6.1") + b"\x40") * 5],
)
def _page_kinds(data: bytes) -> None:
    count = 1 << max(len(data) // SIZE, 1).bit_length() - 1
    structs = np.zeros((count + 1, SIZE), dtype=np.uint8)
    taken = np.frombuffer(data[: count * SIZE], dtype=np.uint8)
    structs.reshape(-1)[: len(taken)] = taken
    for series in ("6.1", "6.12"):
        told = read_structs(structs, 0, layout_of(TOLD[series]))
        kinds = spread(told)
        assert kinds.max() <= max(PageKind)
        # a page array of zeros leaves out nothing, and level 0 only what is bad or gone
        if not taken.any():
            assert not left_out(31)[kinds].any()
        gone = set(kinds[left_out(0)[kinds]].tolist())
        assert gone <= {PageKind.HWPOISON, PageKind.OFFLINE}
