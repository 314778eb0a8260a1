"""``mem_section``: which sections of the physical address space have ``struct page``.

VMCOREINFO alone says where it is and how it is laid out (mm/sparse.c, kernel/vmcore_info.c), so it
works without symbols. A section is 128 MiB on x86-64, so the map is coarse.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.space.ranges import Int64Array, Ranges, normalise
from vmcorefs.core.space.units import counted
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

_PRESENT = 1  # SECTION_MARKED_PRESENT (include/linux/mmzone.h)
_MAX_SECTIONS = 1 << 29  # riscv64's, whose roots take 32 MiB; 2**27 on ppc64
_MAX_STATIC = 1 << 20  # CONFIG_SPARSEMEM_STATIC is for few sections: 2**18 on s390x
_MAX_PRESENT = 1 << 22  # half a PiB in x86-64's sections: as many as there are roots for
_MAX_PHYSMEM_BITS = 56  # riscv64's; more than any other's


class SectionMaps(msgspec.Struct, frozen=True, eq=False):
    """The sections that are present.

    Attributes:
        size: Bytes of physical memory in a section.
        number: Each section's number, shape ``(n,)``, int64, sorted.
        maps: Its ``section_mem_map`` including the flags, shape ``(n,)``, uint64.
    """

    size: int
    number: Int64Array
    maps: npt.NDArray[np.uint64]


def read_sections(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> Ranges:
    """The physical ranges of all sections that are present, a normal set.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or its numbers cannot be true.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    sections = read_section_maps(vmcoreinfo, memory)
    start = sections.number * sections.size
    return normalise(np.stack((start, start + sections.size), axis=1))


def read_section_maps(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> SectionMaps:
    """Read ``section_mem_map`` of every section that is present.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or its numbers cannot be true.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    table = _read_layout(vmcoreinfo, memory)
    number, maps = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.uint64)]
    for first, vaddr, count in _find_pieces(table, vmcoreinfo, memory):
        found = _read_maps(table, vaddr, count, memory)[: table.sections - first]
        present = np.flatnonzero(found & np.uint64(_PRESENT))
        number.append(first + present)
        maps.append(found[present])
    return SectionMaps(1 << table.shift, np.concatenate(number), np.concatenate(maps))


class _Layout(msgspec.Struct, frozen=True):
    """What VMCOREINFO says about ``mem_section``, checked.

    Attributes:
        shift: log2 of the bytes in a section.
        sections: How many there can be.
        entry: Bytes in ``struct mem_section``.
        map_at: Where ``section_mem_map`` is in it.
        roots: Number of pointers to pages of ``per_root`` sections (CONFIG_SPARSEMEM_EXTREME); 0 if
            the sections are one array.
        per_root: Sections in a page.
    """

    shift: int
    sections: int
    entry: int
    map_at: int
    roots: int
    per_root: int


def _read_layout(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> _Layout:
    entry = vmcoreinfo.size("mem_section")
    map_at = vmcoreinfo.offset("mem_section.section_mem_map")
    shift = vmcoreinfo.number("SECTION_SIZE_BITS")
    roots = vmcoreinfo.length("mem_section")
    bits = vmcoreinfo.number("MAX_PHYSMEM_BITS")
    per_root = vmcoreinfo.page_size // entry  # SECTIONS_PER_ROOT
    if not (12 < shift < 48 and map_at + memory.word_size <= entry and per_root):
        raise FormatError(f"VMCOREINFO: sections of 2**{shift} bytes, {entry} bytes each")
    if not shift <= bits <= _MAX_PHYSMEM_BITS:
        raise FormatError(f"VMCOREINFO: {bits} bits of physical addresses, sections of 2**{shift}")
    sections = 1 << bits - shift
    if roots == -(-sections // per_root) and sections <= _MAX_SECTIONS:
        return _Layout(shift, sections, entry, map_at, roots, per_root)
    if roots == sections <= _MAX_STATIC:
        return _Layout(shift, sections, entry, map_at, 0, per_root)
    raise FormatError(
        f"VMCOREINFO: {counted(roots, 'root')} of {counted(per_root, 'section')}, expected"
        f" {counted(sections, 'section')} in all"
    )


def _find_pieces(
    table: _Layout, vmcoreinfo: Vmcoreinfo, memory: KernelMemory
) -> list[tuple[int, int, int]]:
    """Pieces of the array: number of the first section, its address, how many sections."""
    at = vmcoreinfo.symbol("mem_section")
    if not table.roots:
        return [(0, at, table.sections)]
    pointers = memory.integers(at, table.roots, memory.word_size)
    if np.count_nonzero(pointers) * table.per_root > _MAX_PRESENT:
        raise FormatError(f"mem_section: room for more than {_MAX_PRESENT} sections")
    return [
        (root * table.per_root, int(pointers[root]), table.per_root)
        for root in np.flatnonzero(pointers).tolist()
    ]


def _read_maps(
    table: _Layout, vaddr: int, count: int, memory: KernelMemory
) -> npt.NDArray[np.uint64]:
    data = memory.read(vaddr, count * table.entry)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(count, table.entry)
    maps = rows[:, table.map_at : table.map_at + memory.word_size].copy()
    return maps.view(f"{memory.byte_order}u{memory.word_size}")[:, 0].astype(np.uint64)
