"""Where a kernel keeps its ``struct page`` array: one piece per section, or per node.

VMCOREINFO alone is enough to find it (kernel/vmcore_info.c). With CONFIG_SPARSEMEM, vmemmap or not,
each section of the physical address space points to its piece (include/linux/mmzone.h); without,
each node does (CONFIG_DISCONTIGMEM), or there is only one piece (CONFIG_FLATMEM).
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.mem_section import read_section_maps
from vmcorefs.errors import FormatError

# SECTION_HAS_MEM_MAP, and all bits that can be flags: PFN_SECTION_SHIFT is at least 6
_HAS_MEM_MAP = 2
_FLAGS = 0x3F
_MAX_NODES = 1 << 10  # MAX_NUMNODES
_MAX_PFN = 1 << 44
_POINTER_BITS = 64


class PageArray(msgspec.Struct, frozen=True, eq=False):
    """The pieces of a page array.

    Attributes:
        pfn: The first page that each piece describes, shape ``(n,)``, int64, sorted.
        count: How many pages it describes, shape ``(n,)``, int64; pieces do not overlap.
        vaddr: Where its first ``struct page`` is, shape ``(n,)``, int64: a virtual address as two's
            complement, as in ``paging.mappings.Mappings``.
    """

    pfn: Int64Array
    count: Int64Array
    vaddr: Int64Array


def find_page_array(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> PageArray:
    """Find the page array.

    Args:
        vmcoreinfo: The kernel's.
        memory: Reads its variables.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or a number in it or in memory cannot be true.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    if "SYMBOL(mem_section)" in vmcoreinfo.values:
        return _from_sections(vmcoreinfo, memory)
    return _from_nodes(vmcoreinfo, memory)


def _from_sections(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> PageArray:
    sections = read_section_maps(vmcoreinfo, memory)
    kept = (sections.maps & np.uint64(_HAS_MEM_MAP)) != 0
    number, maps = sections.number[kept], sections.maps[kept]
    pages = sections.size // vmcoreinfo.page_size
    pfn = number * pages
    # the stored address is where page 0's structure would be (mm/sparse.c, sparse_encode_mem_map)
    first = (maps & ~np.uint64(_FLAGS)).view(np.int64)
    with np.errstate(over="ignore"):  # vmemmap minus some lies in the other half
        vaddr = first + pfn * vmcoreinfo.size("page")
    return PageArray(pfn, np.full_like(pfn, pages), _narrow(vaddr, memory))


def _from_nodes(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> PageArray:
    rows = []
    members = ("node_mem_map", "node_start_pfn", "node_spanned_pages")
    offsets = [vmcoreinfo.offset(f"pglist_data.{member}") for member in members]
    for node in _nodes(vmcoreinfo, memory):
        mem_map, start, spanned = (memory.pointer(node + offset) for offset in offsets)
        if not (0 <= start < _MAX_PFN and 0 <= spanned < _MAX_PFN):
            raise FormatError(f"node at {node:#x}: {spanned:#x} pages from {start:#x}")
        if mem_map and spanned:
            rows.append((start, spanned, mem_map - (mem_map >> 63 << 64)))
    rows.sort()
    for (start, spanned, _), (following, _, _) in pairwise(rows):
        if start + spanned > following:
            raise FormatError(f"nodes overlap at page {following:#x}")
    pfn, count, vaddr = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return PageArray(pfn.copy(), count.copy(), vaddr.copy())


def _nodes(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> list[int]:
    """Where each node's ``struct pglist_data`` is."""
    if "SYMBOL(node_data)" not in vmcoreinfo.values:
        return [vmcoreinfo.symbol("contig_page_data")]
    count = vmcoreinfo.length("node_data")
    if count > _MAX_NODES:
        raise FormatError(f"VMCOREINFO: LENGTH(node_data) is {count}")
    table = memory.integers(vmcoreinfo.symbol("node_data"), count, memory.word_size)
    return [node for node in table.tolist() if node]


def _narrow(vaddr: Int64Array, memory: KernelMemory) -> Int64Array:
    """Cut addresses of a 32-bit kernel to 32 bits."""
    return vaddr if 8 * memory.word_size == _POINTER_BITS else vaddr & ((1 << 32) - 1)
