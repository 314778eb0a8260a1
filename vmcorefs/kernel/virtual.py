"""Kernel virtual memory, read through PT_LOADs or page tables."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.machines import long_bits
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.mappings import UInt64Array
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError
from vmcorefs.reader import Reader
from vmcorefs.sources.unreadable import read_around


def through_loads(
    memory: Reader, elfcorehdr: Elfcorehdr, vmcoreinfo: Vmcoreinfo | None = None
) -> KernelMemory:
    """Read through the PT_LOADs: the kernel's text and data, and the direct map.

    Args:
        memory: The crashed kernel's memory, by physical address.
        elfcorehdr: Its PT_LOADs are used.
        vmcoreinfo: The kernel's, if it is known.
    """
    header = elfcorehdr.header
    loads = [
        (int(load["p_vaddr"]), int(load["p_memsz"]), int(load["p_paddr"]))
        for load in elfcorehdr.loads
        if load["p_vaddr"]
    ]

    def read(vaddr: int, size: int) -> bytes:
        for start, length, paddr in loads:
            if start <= vaddr and vaddr + size <= start + length:
                return memory.pread(size, paddr + vaddr - start)
        raise FormatError(f"no PT_LOAD holds the {size} bytes at vaddr {vaddr:#x}")

    return KernelMemory(read, header.byte_order, long_bits(header, vmcoreinfo) // 8)


def through_distance(
    memory: Reader, distance: int, *, byte_order: ByteOrder, word_size: int
) -> KernelMemory:
    """Read the kernel's image as one piece, without page tables.

    Args:
        memory: The crashed kernel's memory, by physical address.
        distance: How far the image is above physical addresses.
        byte_order: Of the machine.
        word_size: Bytes in a ``long``.
    """

    def read(vaddr: int, size: int) -> bytes:
        if not 0 <= vaddr - distance <= MAX_ADDRESS:
            raise FormatError(f"the {size} bytes at vaddr {vaddr:#x} are not in the kernel's image")
        return memory.pread(size, vaddr - distance)

    return KernelMemory(read, byte_order, word_size)


class Translation(Protocol):
    """Translates virtual addresses: ``Mappings``, a ``TableLookup`` or a ``LoadLookup``."""

    @property
    def page_size(self) -> int:
        """The least number of bytes that are mapped together."""

    def translate_many(self, vaddrs: UInt64Array) -> Int64Array:
        """The physical address behind each virtual one, int64; -1 where nothing is mapped."""


class LoadLookup:
    """Translates addresses by the PT_LOADs: the kernel's text and data, and the direct map.

    Attributes:
        page_size: Bytes in a page; only whole pages of a PT_LOAD count.
    """

    def __init__(self, elfcorehdr: Elfcorehdr, page_size: int) -> None:
        self.page_size = page_size
        loads = elfcorehdr.loads
        self._loads = loads[loads["p_vaddr"] != 0]

    def translate_many(self, vaddrs: UInt64Array) -> Int64Array:
        """The physical address behind each virtual one, int64; -1 where no PT_LOAD holds a page."""
        paddrs = np.full(len(vaddrs), -1, dtype=np.int64)
        for load in self._loads[::-1]:  # the first one counts
            inside = vaddrs - load["p_vaddr"]  # what is below it becomes very large
            size = int(load["p_memsz"]) - self.page_size
            held = inside <= max(size, 0) if size >= 0 else np.zeros(len(vaddrs), dtype=np.bool_)
            paddrs[held] = inside[held].astype(np.int64) + int(load["p_paddr"])
        return paddrs


def read_into(
    memory: Reader, translation: Translation, vaddr: int, buffer: memoryview
) -> list[tuple[int, int]]:
    """Read what there is of a range of virtual memory; what is missing is not to be looked at.

    Args:
        memory: The crashed kernel's memory, by physical address.
        translation: Where virtual pages are.
        vaddr: Where to begin.
        buffer: Filled.

    Returns:
        What is missing, as it is not mapped, in no input or not readable: ranges of ``buffer``, in
        order.
    """
    page, size = translation.page_size, len(buffer)
    before = vaddr % page
    count = (before + size + page - 1) // page
    first = np.uint64(vaddr - before) + np.arange(count, dtype=np.uint64) * np.uint64(page)
    pages = translation.translate_many(first)
    # contiguous pages are read at once, and unmapped ones skipped at once
    steps = np.where(pages[1:] < 0, pages[:-1] >= 0, pages[1:] - pages[:-1] != page)
    heads = [0, *(np.flatnonzero(steps) + 1).tolist()] if count else []
    lost: list[tuple[int, int]] = []
    for head, end in zip(heads, [*heads[1:], count], strict=True):
        low, high = max(head * page - before, 0), min(end * page - before, size)
        paddr = int(pages[head]) + low + before - head * page
        if pages[head] < 0:
            lost.append((low, high))
        else:
            bad = read_around(memory.pread_into, paddr, buffer[low:high])
            lost += ((low + start, low + end) for start, end in bad)
    return lost


def read_through(
    memory: Reader, mappings: Translation, *, byte_order: ByteOrder, word_size: int
) -> KernelMemory:
    """Read through the kernel's page tables: everything that it had mapped, also vmalloc space.

    Args:
        memory: The crashed kernel's memory, by physical address.
        mappings: What the page tables map.
        byte_order: Of the machine.
        word_size: Bytes in a ``long``.
    """
    page = mappings.page_size

    def read(vaddr: int, size: int) -> bytes:
        if not 0 <= vaddr <= vaddr + size <= 1 << 64:
            raise FormatError(f"no address space holds the {size} bytes at vaddr {vaddr:#x}")
        offset = vaddr % page
        count = (offset + size + page - 1) // page
        first = np.uint64(vaddr - offset)
        pages = mappings.translate_many(first + np.arange(count, dtype=np.uint64) * np.uint64(page))
        if count and pages.min() < 0:
            raise FormatError(f"the page tables do not map the {size} bytes at vaddr {vaddr:#x}")
        # contiguous pages are read at once
        heads = np.flatnonzero(np.diff(pages, prepend=-2 * page) != page).tolist()
        parts = [
            memory.pread((end - head) * page, int(pages[head]))
            for head, end in zip(heads, [*heads[1:], count], strict=True)
        ]
        return b"".join(parts)[offset : offset + size]

    return KernelMemory(read, byte_order, word_size)
