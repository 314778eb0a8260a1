"""Where everything is in a ``kcore``: kernel virtual memory as an ELF core.

Like /proc/kcore (fs/proc/kcore.c) it has a PT_LOAD for each part of the kernel's address space: the
direct map, vmalloc space with its stacks and modules, vmemmap, the kernel's own image. The parts
are what the page tables map, split at long gaps. Inside a PT_LOAD, what is not mapped is a hole.
"""

from __future__ import annotations

import msgspec
import numpy as np

from vmcorefs.core.elf.elf import PF_RWX, PHDR_DTYPE, PT_LOAD, ElfHeader, headers_size, pack_headers
from vmcorefs.core.layouts.kernel import note_phdr
from vmcorefs.core.space.extents import Windows
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.space.units import align_up

PART_GAP = 1 << 30
"""Size of the gap that ends a part, in bytes: large enough to keep vmalloc space with its guard
pages in one piece, and small enough that the file is not much larger than what it holds."""

NO_PADDR = np.uint64(2**64 - 1)
"""p_paddr of a part that is not contiguous in physical memory; drgn and makedumpfile know it."""


class KcoreLayout(msgspec.Struct, frozen=True):
    """A kcore without its memory.

    Attributes:
        head: ELF header and program headers, padded to whole pages.
        windows: The physical memory of each run, and where it is in the file.
        notes_end: Where the merged notes, which follow ``head``, end with their padding.
        size: Bytes in the file.
    """

    head: memoryview
    windows: Windows
    notes_end: int
    size: int


def lay_out_kcore(
    header: ElfHeader,
    *,
    vaddr: Int64Array,
    paddr: Int64Array,
    size: Int64Array,
    notes_size: int,
    page_size: int,
) -> KcoreLayout:
    """Lay out a kcore.

    Args:
        header: The ELF header to use; an elfcorehdr's.
        vaddr: First virtual address of each run, shape ``(n,)``, as signed 64-bit integers: kernel
            addresses are negative. Sorted, not overlapping.
        paddr: First physical address of each run.
        size: Bytes in each run.
        notes_size: Bytes in the merged notes.
        page_size: Of the crashed kernel, in bytes.
    """
    ends = vaddr + size
    first = np.flatnonzero(np.append(True, vaddr[1:] - ends[:-1] >= PART_GAP)[: len(vaddr)])
    last = np.append(first[1:], len(vaddr))[: len(first)] - 1
    part_size = ends[last] - vaddr[first]

    head_size = align_up(headers_size(header, 1 + len(first)), page_size)
    notes_end = head_size + align_up(notes_size, page_size)
    part_offset = notes_end + np.cumsum(part_size) - part_size
    part_of = np.searchsorted(first, np.arange(len(vaddr)), side="right") - 1

    loads = np.zeros(len(first), dtype=PHDR_DTYPE)
    loads["p_type"], loads["p_flags"], loads["p_align"] = PT_LOAD, PF_RWX, page_size
    loads["p_offset"], loads["p_vaddr"] = part_offset, vaddr[first].view(np.uint64)
    loads["p_filesz"] = loads["p_memsz"] = part_size
    loads["p_paddr"] = _part_paddr(vaddr - paddr, paddr[first], first, last)
    phdrs = np.concatenate((note_phdr(head_size, notes_size, 4), loads))
    return KcoreLayout(
        head=pack_headers(header, phdrs, size=head_size),
        windows=Windows(paddr, size, part_offset[part_of] + (vaddr - vaddr[first][part_of])),
        notes_end=notes_end,
        size=notes_end + int(part_size.sum()),
    )


def _part_paddr(
    distance: Int64Array, paddr: Int64Array, first: Int64Array, last: Int64Array
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """A part's physical address, if all of it is at one distance from its virtual address."""
    if not len(first):
        return paddr.astype(np.uint64)
    lowest, highest = (reduce.reduceat(distance, first) for reduce in (np.minimum, np.maximum))
    return np.where(lowest == highest, paddr.astype(np.uint64), NO_PADDR)
