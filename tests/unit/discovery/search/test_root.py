"""Where page tables lie in a file that nobody knows the place of."""

from __future__ import annotations

import struct

import pytest

from tests.builders.kernels import ARM, GIB, MIB, RISCV, X86, X86_RAM, Arch, DeadKernel, make_kernel
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.discovery.search.root import MAX_TRIES, find_deltas, maps_itself
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource

SIZE = 24 * MIB


class File(BytesSource):
    """The memory from ``start`` on, behind ``skip`` bytes, and how much of it was read."""

    def __init__(self, kernel: DeadKernel, start: int, skip: int = 0) -> None:
        data = bytearray(skip + SIZE)
        for paddr, chunk in kernel.chunks:
            at = skip + paddr - start
            if skip <= at and at + len(chunk) <= len(data):
                data[at : at + len(chunk)] = chunk
        super().__init__("file", bytes(data))
        self.read = 0

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        self.read += len(buffer)
        super().pread_into(offset, buffer)


def by_offset(source: BytesSource, skip: int = 0, size: int = SIZE) -> Reader:
    table = make_extents(make_ranges([(0, size)]), kind=Kind.DATA, source=0, offset=skip)
    return Reader("memory", table, (source,))


def deltas(kernel: DeadKernel, source: BytesSource, skip: int = 0, text: bytes = b"") -> list[int]:
    info = parse_vmcoreinfo(text or kernel.text)
    fmt, root = locate_page_tables(kernel.arch.number, info)
    usual = set(find_deltas(by_offset(source, skip), fmt, root, info, search=False))
    found = list(find_deltas(by_offset(source, skip), fmt, root, info, search=True))
    assert usual <= set(found)
    return found


@pytest.mark.parametrize("delta", [0, 0x1000, 0x61400, 3 * MIB, 7 * GIB, 2**40 + 0x400])
def test_the_distance_is_found_on_each_kib(delta: int) -> None:
    base = delta + 5 * MIB - delta % MIB
    kernel = make_kernel(ram=[(delta, delta + 64 * MIB)], base=base)
    assert deltas(kernel, File(kernel, delta)) == [delta]


@pytest.mark.parametrize("skip", [32, 4096, 100_000])
def test_what_stands_in_front_of_the_memory_does_not_count(skip: int) -> None:
    kernel = make_kernel(ram=[(GIB, 2 * GIB)], base=GIB + 4 * MIB)
    assert deltas(kernel, File(kernel, GIB, skip), skip) == [GIB]


@pytest.mark.parametrize(
    ("arch", "start"), [(X86, 0), (ARM, GIB), (ARM, 1 << 40), (RISCV, 2 * GIB)]
)
def test_the_usual_distances_cost_no_search(arch: Arch, start: int) -> None:
    kernel = make_kernel(arch, [(start, start + GIB)], base=start + 4 * MIB)
    source = File(kernel, start)
    info = parse_vmcoreinfo(kernel.text)
    fmt, root = locate_page_tables(arch.number, info)
    assert list(find_deltas(by_offset(source), fmt, root, info, search=False)) == [start]
    assert source.read < 1024


def test_tables_that_map_something_else_are_none() -> None:
    kernel = make_kernel()
    kernel.put(kernel.base + 0x100000, bytes(4096))
    assert deltas(kernel, File(kernel, 0)) == []


@pytest.mark.parametrize("filling", [b"\xff", b"\x67", b"\x01", b"\0"])
def test_memory_full_of_the_same_byte(filling: bytes) -> None:
    source = BytesSource("file", filling * SIZE)
    assert deltas(make_kernel(), source) == []


def test_a_root_in_each_page_ends() -> None:
    """Each names itself, so each could be it; but there is an end to those that are tried."""
    kernel = make_kernel()
    page = struct.pack("<Q", kernel.base + 0x100000 | 0x67) * 512
    info = parse_vmcoreinfo(kernel.text)
    fmt, root = locate_page_tables(62, info)
    file = by_offset(BytesSource("file", page * 1024), size=4 * MIB)
    found = list(find_deltas(file, fmt, root, info, search=True))
    assert len(set(found)) == len(found) <= MAX_TRIES


@pytest.mark.parametrize("phys_base", [-(2**63), 2**63, -0x1000, 2**64 - 1, 1 << 62, 0x123])
def test_a_root_where_no_memory_can_be(phys_base: int) -> None:
    kernel = make_kernel(told={"NUMBER(phys_base)": str(phys_base)})
    assert deltas(kernel, File(kernel, 0)) == []
    kernel = make_kernel(
        told={"NUMBER(phys_base)": str(phys_base), "SYMBOL(swapper_pg_dir)": "f" * 19}
    )
    assert deltas(kernel, File(kernel, 0)) == []


def test_a_file_of_less_than_a_kib() -> None:
    kernel = make_kernel()
    info = parse_vmcoreinfo(kernel.text)
    fmt, root = locate_page_tables(62, info)
    file = by_offset(BytesSource("file", bytes(100)), size=100)
    assert list(find_deltas(file, fmt, root, info, search=False)) == []
    assert list(find_deltas(file, fmt, root, info, search=True)) == []


def test_where_a_file_cannot_be_read_there_is_no_root() -> None:
    kernel = make_kernel()
    info = parse_vmcoreinfo(kernel.text)
    fmt, root = locate_page_tables(62, info)
    file = by_offset(BytesSource("file", bytes(MIB)))
    assert not maps_itself(file, fmt, root, info.symbol("swapper_pg_dir"), 0)


def test_tables_that_end_behind_the_file_do_not_map_themselves() -> None:
    kernel = make_kernel(ram=X86_RAM, base=SIZE - MIB)
    assert deltas(kernel, File(kernel, 0)) == []


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 10**20 - 1, -(10**20) + 1])
@pytest.mark.parametrize("key", ["PHYS_OFFSET", "phys_ram_base"])
def test_an_absurd_start_of_ram(key: str, value: int) -> None:
    kernel = make_kernel(told={f"NUMBER({key})": str(value)})
    assert deltas(kernel, File(kernel, 0)) == [0]
