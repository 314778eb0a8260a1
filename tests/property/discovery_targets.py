"""What discovery reads out of a kernel's memory, as functions of bytes.

Each target raises nothing but a ``VmcorefsError`` and asks for no more memory than there is sense
in; ``TARGETS`` names them, and ``SEEDS`` has what is valid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from tests.builders.dead_machines import vmcoreinfo_note, vmcoreinfo_text
from tests.builders.kernels import MIB
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.maps.e820 import read_boot_params, read_e820_table
from vmcorefs.core.maps.memblock import read_memblock
from vmcorefs.core.maps.memory_map import MemoryMap, format_iomem
from vmcorefs.core.maps.resources import RESOURCE, read_resources, read_span
from vmcorefs.core.paging.formats import arm64, riscv64, x86_64
from vmcorefs.core.paging.lookup import translate
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.core.structures.crash_notes import find_slots
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.mem_section import read_sections
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.discovery.crash_kernel.told_elfcorehdr import parse_option
from vmcorefs.discovery.search.candidates import read_note
from vmcorefs.discovery.search.trampoline import find_notes
from vmcorefs.errors import FaultError
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource

MOST = 64 << 20
"""No target may ask for more bytes at once, whatever the memory says."""

AT = 0xFFFFFFFF82000000


def ring(data: bytes) -> KernelMemory:
    """Memory that is mapped everywhere, ``data`` again and again: each pointer leads into it.

    All but the last page of addresses, so that what runs off the end fails.
    """
    data = data or b"\0"

    def read(vaddr: int, size: int) -> bytes:
        if not 0 <= vaddr <= vaddr + size <= (1 << 64) - 4096:
            raise FaultError("memory", vaddr, size, "not mapped")
        assert size <= MOST, f"{size} bytes at {vaddr:#x}"
        start = (vaddr - AT) % len(data)
        return (data[start:] + data * (size // len(data) + 1))[:size]

    return KernelMemory(read, "<", 8)


def _check_map(memory_map: MemoryMap) -> None:
    assert 0 < memory_map.end <= MAX_ADDRESS
    assert len(memory_map.ram)
    assert format_iomem(memory_map).count("\n") == len(memory_map.regions)


def resources(data: bytes) -> None:
    _check_map(read_resources(ring(data), AT))


def resource_layouts(data: bytes) -> None:
    """The first bytes are the size of a node and the offsets of its fields, as from BTF."""
    size, *offsets = struct.unpack_from("<9I", data.ljust(36, b"\0"))
    layout = Struct("resource", size, dict(zip(RESOURCE.offsets, offsets, strict=False)))
    _check_map(read_resources(ring(data[36:]), AT, layout))


def span(data: bytes) -> None:
    start, end = read_span(ring(data), AT)
    assert 0 <= start <= end <= MAX_ADDRESS


def boot_params(data: bytes) -> None:
    _check_map(read_boot_params(ring(data), AT))


def e820_table(data: bytes) -> None:
    _check_map(read_e820_table(ring(data), AT))


def memblock(data: bytes) -> None:
    """The first bytes are what BTF says of its layout."""
    size, base, length, cnt, regions = struct.unpack_from("<IHHHH", data.ljust(12, b"\0"))
    layouts = {
        "memblock": Struct("memblock", 96, {"memory": 0}),
        "memblock_type": Struct("memblock_type", 40, {"cnt": cnt, "regions": regions}),
        "memblock_region": Struct("memblock_region", size, {"base": base, "size": length}),
    }
    _check_map(read_memblock(ring(data[12:]), AT, layouts))


def sections(data: bytes) -> None:
    """The first line for each key of VMCOREINFO; what follows is the memory."""
    *numbers, memory = data.decode("latin-1").split("\n", 6) + [""] * max(0, 6 - data.count(b"\n"))
    keys = (
        "LENGTH(mem_section)",
        "SIZE(mem_section)",
        "OFFSET(mem_section.section_mem_map)",
        "NUMBER(SECTION_SIZE_BITS)",
        "NUMBER(MAX_PHYSMEM_BITS)",
        "PAGESIZE",
    )
    told = "".join(f"{key}={value}\n" for key, value in zip(keys, numbers, strict=False))
    info = parse_vmcoreinfo(f"SYMBOL(mem_section)={AT:x}\n{told}".encode("latin-1"))
    if (info.values.get("LENGTH(mem_section)") or "0").isdigit() and len(numbers[0]) > 5:
        return  # a ring of 2**20 roots and more is only slow
    found = read_sections(info, ring(memory.encode("latin-1")))
    assert ((found >= 0) & (found <= MAX_ADDRESS)).all()


def slots(data: bytes) -> None:
    names = ("crash_notes", "__per_cpu_offset", "nr_cpu_ids", "__cpu_possible_mask")
    addresses = np.array([AT, AT + 8, AT + 16, AT + 24], dtype=np.uint64)
    found = find_slots(ring(data), SymbolTable(addresses, "DDDD", names))
    assert 1 <= len(found) <= 8192
    assert all(0 <= vaddr < 1 << 64 for vaddr in found)


def lookup(data: bytes) -> None:
    """Page tables of each format, all over memory."""
    memory = ring(data)
    for fmt in (x86_64(levels=5), arm64(page_size=65536, va_bits=52), riscv64(va_bits=57)):
        paddr = translate(fmt, 0x1000, AT, lambda at: memory.integer(at + AT, 8))
        assert paddr is None or 0 <= paddr < 1 << 58


def note(data: bytes) -> None:
    found = read_note(lambda at, size: data[at : at + size] if at + size <= len(data) else None, 0)
    if found is not None:
        text, order = found
        size = 24 + len(text)  # the padding may be anything
        assert vmcoreinfo_note(text, order)[:size] == data[:size]
        assert parse_vmcoreinfo(text).release


def trampoline(data: bytes) -> None:
    """Low memory, and all above it, is ``data`` again and again: each table leads into it."""
    data = data or b"\0"
    memory = BytesSource("memory", (data * (MIB // len(data) + 1))[:MIB])
    table = make_extents(make_ranges([(0, MIB)]), kind=Kind.DATA, source=0)
    assert all(0 <= paddr < 1 << 52 for paddr in find_notes(Reader("memory", table, (memory,))))


def command_line(data: bytes) -> None:
    assert 0 <= parse_option(data) < MAX_ADDRESS


NODE = struct.Struct("<8Q")
TREE = NODE.pack(0, 0, 0, 0, 0, 0, 0, AT + 64) + NODE.pack(
    0x1000, 0x3FFF, AT + 128, 0, 0, 0, 0, 0
) + b"System RAM\0".ljust(4096, b"\0")  # fmt: skip
E820 = struct.pack("<QI", AT + 8, 2) + struct.pack("<QQIQQI", 4096, 8192, 1, MIB, MIB, 2)
PARAMS = (bytes(0x1E8) + b"\1").ljust(0x2D0, b"\0") + struct.pack("<QQI", MIB, MIB, 1) + bytes(4096)
MEMBLOCK = struct.pack("<IHHHH", 24, 0, 8, 0, 24) + struct.pack(
    "<8Q", 1, 0, 0, AT + 32, MIB, MIB, 0, 0
)
SECTIONS = b"4\n32\n8\n27\n36\n4096\n" + struct.pack("<8Q", AT + 32, 0, 0, 0, 0, 1, 0, 0)
SLOTS = struct.pack("<QQIIQ", 0x1000, AT, 3, 0, 5)
LOW_TABLES = (
    struct.pack("<512Q", *[0x1067] * 512)
    + struct.pack("<512Q", 0xE3, *[3000, 0xFFFF888000003000] * 254, 0, 0x2067, 0x67)
    + struct.pack("<512Q", 0xE3, *[0] * 511)
)
COMMAND_LINE = b"quiet elfcorehdr=4K@901120K irqpoll"
SEEDS = (
    TREE,
    struct.pack("<9I", 64, 0, 8, 16, 24, 32, 40, 48, 56) + TREE,
    E820,
    PARAMS,
    MEMBLOCK,
    SECTIONS,
    SLOTS,
    vmcoreinfo_note(vmcoreinfo_text()),
    LOW_TABLES,
    COMMAND_LINE,
)
VALID: list[tuple[Callable[[bytes], None], bytes]] = [
    (resources, TREE),
    (resource_layouts, SEEDS[1]),
    (span, TREE[64:]),
    (boot_params, PARAMS),
    (e820_table, E820),
    (memblock, MEMBLOCK),
    (sections, SECTIONS),
    (slots, SLOTS),
    (note, SEEDS[7]),
    (lookup, bytes(16)),
    (trampoline, LOW_TABLES),
    (command_line, COMMAND_LINE),
]
"""Each target and what it parses."""

TARGETS: tuple[Callable[[bytes], None], ...] = (
    resources,
    resource_layouts,
    span,
    boot_params,
    e820_table,
    memblock,
    sections,
    slots,
    lookup,
    note,
    trampoline,
    command_line,
)
