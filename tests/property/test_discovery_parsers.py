"""What discovery reads out of a kernel's memory: parsed, or refused with an error of ours.

Each target is a function of bytes that raises nothing but a ``VmcorefsError`` and asks for no more
memory than there is sense in; ``TARGETS`` names them, and ``SEEDS`` has what is valid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

import vmcorefs
from tests.builders import vmcoreinfo_note, vmcoreinfo_text
from tests.kernel_builder import ARM, IMAGE_SIZE, MIB, X86, DeadKernel, make_kernel
from vmcorefs.config import parse_vmcoreinfo_choice
from vmcorefs.core.btf import Struct
from vmcorefs.core.crash_notes import find_slots
from vmcorefs.core.e820 import read_boot_params, read_e820_table
from vmcorefs.core.kallsyms import SymbolTable
from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.core.mem_section import read_sections
from vmcorefs.core.memblock import read_memblock
from vmcorefs.core.memory_map import MemoryMap, format_iomem
from vmcorefs.core.paging_formats import arm64, riscv64, x86_64
from vmcorefs.core.paging_lookup import translate
from vmcorefs.core.resources import RESOURCE, read_resources, read_span
from vmcorefs.core.units import MAX_ADDRESS
from vmcorefs.core.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.discovery.candidates import read_note
from vmcorefs.discovery.vmcoreinfo import given_vmcoreinfo
from vmcorefs.errors import FaultError, VmcorefsError

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
    text = read_note(lambda at, size: data[at : at + size] if at + size <= len(data) else None, 0)
    if text is not None:
        size = 24 + len(text)  # the padding may be anything
        assert vmcoreinfo_note(text)[:size] == data[:size]
        assert parse_vmcoreinfo(text).release


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
SEEDS = (
    TREE,
    struct.pack("<9I", 64, 0, 8, 16, 24, 32, 40, 48, 56) + TREE,
    E820,
    PARAMS,
    MEMBLOCK,
    SECTIONS,
    SLOTS,
    vmcoreinfo_note(vmcoreinfo_text()),
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
    (note, SEEDS[-1]),
    (lookup, bytes(16)),
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
)
WORDS = [
    b"\xff" * 8,
    bytes(8),
    struct.pack("<Q", AT),
    struct.pack("<Q", AT + 64),
    struct.pack("<Q", 1 << 63),
    struct.pack("<Q", MAX_ADDRESS),
    b"9" * 20 + b"\n",
    b"\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A seed with some bytes replaced, inserted or cut out."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, min(len(data), 300)))
        if draw(st.booleans()):
            at &= ~7
        length = draw(st.sampled_from([0, 1, 4, 8]))
        data[at : at + length] = draw(st.sampled_from(WORDS) | st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
@given(data=st.binary(max_size=300) | mutated())
def test_parsed_or_refused(target: Callable[[bytes], None], data: bytes) -> None:
    with suppress(VmcorefsError):
        target(data)


@pytest.mark.parametrize(("target", "seed"), VALID)
def test_the_seeds_are_valid(target: Callable[[bytes], None], seed: bytes) -> None:
    target(seed)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("discovery")


@given(data=st.binary(max_size=200) | mutated() | st.just(vmcoreinfo_text()))
def test_a_file_with_vmcoreinfo(directory: Path, data: bytes) -> None:
    path = directory / "vmcoreinfo"
    path.write_bytes(data)
    with suppress(VmcorefsError):
        read = given_vmcoreinfo(str(path))
        assert isinstance(read, int) or read.text


@given(text=st.text(max_size=20) | st.from_regex(r"(0x)?[0-9a-fA-F]{1,40}", fullmatch=True))
def test_what_is_typed_for_vmcoreinfo(directory: Path, text: str) -> None:
    with suppress(VmcorefsError):
        given_one, use = parse_vmcoreinfo_choice(text, str(directory))
        assert use == (text != "none")
        if isinstance(given_one, str):
            with suppress(VmcorefsError):
                given_vmcoreinfo(given_one + "\0")  # never a file


# --- the whole way ---------------------------------------------------------------------------


@cache
def small(number: int) -> DeadKernel:
    if number == 0:
        return make_kernel(ram=[(0x1000, 0x9FC00), (MIB, 8 * MIB)], base=4 * MIB)
    return make_kernel(ARM, [(4 * MIB, 12 * MIB)], base=6 * MIB)


@cache
def interesting(number: int) -> list[int]:
    """Where the image of a kernel is not zeros, by 8 bytes, from its start."""
    kernel = small(number)
    image = bytearray(IMAGE_SIZE + 0x30000)
    for paddr, data in kernel.chunks:
        at = paddr - kernel.base
        if 0 <= at < len(image):
            image[at : at + len(data)] = data
    return (np.flatnonzero(np.frombuffer(image, dtype=np.uint64)) * 8).tolist()


PATCHES = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from(WORDS[:6]) | st.binary(max_size=16)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150)
@given(number=st.integers(0, 1), patches=PATCHES, truncated=st.booleans(), end=st.integers(0, 40))
@example(number=0, patches=[(0, b"")], truncated=False, end=0)
def test_a_kernel_with_wrong_bytes_is_opened_or_refused(
    directory: Path, number: int, patches: list[tuple[int, bytes]], truncated: bool, end: int
) -> None:
    kernel = small(number)
    places = interesting(number)
    wrong = [(kernel.base + places[where % len(places)], data) for where, data in patches]
    spoilt = DeadKernel(kernel.arch, kernel.ram, kernel.base, chunks=[*kernel.chunks, *wrong])
    start = 0 if kernel.arch is X86 else kernel.ram[0][0]
    size = kernel.ram[-1][1] - start - end * 100_000
    path = spoilt.save(directory / "ram", [(start, 0, size)])
    with suppress(VmcorefsError), vmcorefs.open(path, truncated=truncated) as capture:
        for file in capture.files.values():
            with suppress(VmcorefsError):
                file.pread(min(4096, file.size), 0)
        assert truncated or not len(capture.image.missing)


def test_the_kernels_that_are_spoilt_are_sound(directory: Path) -> None:
    for number in (0, 1):
        kernel = small(number)
        start = 0 if kernel.arch is X86 else kernel.ram[0][0]
        path = kernel.save(directory / "ram", [(start, 0, kernel.ram[-1][1] - start)])
        with vmcorefs.open(path) as capture:
            assert capture.image.memory_map.ram.tolist() == [list(row) for row in kernel.ram]
