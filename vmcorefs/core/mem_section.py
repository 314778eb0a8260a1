"""``mem_section``: which sections of the physical address space have ``struct page``.

VMCOREINFO alone tells where it is and how it is laid out (mm/sparse.c, kernel/vmcore_info.c), so it
serves where there are no symbols. A section is 128 MiB on x86-64, so it is a coarse map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.core.ranges import Int64Array, Ranges, normalise
from vmcorefs.core.vmcoreinfo import Vmcoreinfo
from vmcorefs.errors import FormatError

_PRESENT = 1  # SECTION_MARKED_PRESENT (include/linux/mmzone.h)
_MAX_SECTIONS = 1 << 26
_MAX_STATIC = 1 << 20  # CONFIG_SPARSEMEM_STATIC is for few: 2**18 on s390x
_MAX_PHYSMEM_BITS = 56  # riscv64's; more than any other's


@dataclass(frozen=True, slots=True, eq=False)
class SectionMaps:
    """The sections that are present.

    Attributes:
        size: Bytes of physical memory in a section.
        number: Each section's number, shape ``(n,)``, int64, sorted.
        maps: Its ``section_mem_map``, flags and all, shape ``(n,)``, uint64.
    """

    size: int
    number: Int64Array
    maps: npt.NDArray[np.uint64]


def read_sections(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> Ranges:
    """The physical ranges of all sections that are present, a normal set.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or its numbers cannot be true.
        VmcorefsError: what ``memory.read`` raises.
    """
    sections = read_section_maps(vmcoreinfo, memory)
    start = sections.number * sections.size
    return normalise(np.stack((start, start + sections.size), axis=1))


def read_section_maps(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> SectionMaps:
    """Read ``section_mem_map`` of every section that is present.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or its numbers cannot be true.
        VmcorefsError: what ``memory.read`` raises.
    """
    section_size = vmcoreinfo.size("mem_section")
    map_at = vmcoreinfo.offset("mem_section.section_mem_map")
    shift = vmcoreinfo.number("SECTION_SIZE_BITS")
    roots = vmcoreinfo.length("mem_section")
    bits = vmcoreinfo.number("MAX_PHYSMEM_BITS")
    # CONFIG_SPARSEMEM_EXTREME: a root is one page of sections (SECTIONS_PER_ROOT)
    per_root = vmcoreinfo.page_size // section_size
    if not (12 < shift < 48 and map_at + memory.word_size <= section_size and per_root):
        raise FormatError(f"VMCOREINFO: sections of 2**{shift} bytes, {section_size} bytes each")
    if not shift <= bits <= _MAX_PHYSMEM_BITS:
        raise FormatError(f"VMCOREINFO: {bits} bits of physical addresses, sections of 2**{shift}")
    sections = 1 << bits - shift
    is_extreme = roots == -(-sections // per_root)
    if not ((is_extreme and sections <= _MAX_SECTIONS) or roots == sections <= _MAX_STATIC):
        raise FormatError(
            f"VMCOREINFO: {roots} roots of {per_root} sections, expected {sections} sections in all"
        )
    word = np.dtype(f"{memory.byte_order}u{memory.word_size}")
    at = vmcoreinfo.symbol("mem_section")

    def read_maps(vaddr: int, count: int) -> npt.NDArray[np.uint64]:
        data = memory.read(vaddr, count * section_size)
        rows = np.frombuffer(data, dtype=np.uint8).reshape(count, section_size)
        maps = rows[:, map_at : map_at + memory.word_size].copy().view(word)[:, 0]
        return maps.astype(np.uint64)

    number, maps = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.uint64)]
    if is_extreme:
        table = np.frombuffer(memory.read(at, roots * memory.word_size), dtype=word)
        pieces = [
            (root * per_root, int(table[root]), per_root) for root in np.flatnonzero(table).tolist()
        ]
    else:
        pieces = [(0, at, sections)]
    for first, vaddr, count in pieces:
        found = read_maps(vaddr, count)
        present = np.flatnonzero(found[: sections - first] & np.uint64(_PRESENT))
        number.append(first + present)
        maps.append(found[present])
    return SectionMaps(1 << shift, np.concatenate(number), np.concatenate(maps))
