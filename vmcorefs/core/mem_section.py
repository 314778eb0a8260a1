"""``mem_section``: which sections of the physical address space have ``struct page``.

VMCOREINFO alone tells where it is and how it is laid out (mm/sparse.c, kernel/vmcore_info.c), so it
serves where there are no symbols. A section is 128 MiB on x86-64, so it is a coarse map.
"""

from __future__ import annotations

import numpy as np

from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.core.ranges import Ranges, normalise
from vmcorefs.core.vmcoreinfo import Vmcoreinfo
from vmcorefs.errors import FormatError

_PRESENT = 1  # SECTION_MARKED_PRESENT (include/linux/mmzone.h)
_MAX_SECTIONS = 1 << 26
_MAX_PHYSMEM_BITS = 56  # riscv64's; more than any other's


def read_sections(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> Ranges:
    """The physical ranges of all sections that are present, a normal set.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or its numbers cannot be true.
        VmcorefsError: what ``memory.read`` raises.
    """
    section_size = vmcoreinfo.size("mem_section")
    map_at = vmcoreinfo.offset("mem_section.section_mem_map")
    shift = vmcoreinfo.number("SECTION_SIZE_BITS")
    # CONFIG_SPARSEMEM_EXTREME: a root is one page of sections (SECTIONS_PER_ROOT)
    per_root = vmcoreinfo.page_size // section_size
    roots = vmcoreinfo.length("mem_section")
    bits = vmcoreinfo.number("MAX_PHYSMEM_BITS")
    if not (12 < shift < 48 and map_at + memory.word_size <= section_size and per_root):
        raise FormatError(f"VMCOREINFO: sections of 2**{shift} bytes, {section_size} bytes each")
    if not shift <= bits <= _MAX_PHYSMEM_BITS:
        raise FormatError(f"VMCOREINFO: {bits} bits of physical addresses, sections of 2**{shift}")
    sections = 1 << bits - shift
    if not roots * per_root == sections <= _MAX_SECTIONS:
        raise FormatError(
            f"VMCOREINFO: {roots} roots of {per_root} sections, expected {sections} sections in all"
            " (CONFIG_SPARSEMEM_EXTREME)"
        )
    word = np.dtype(f"{memory.byte_order}u{memory.word_size}")
    table = memory.read(vmcoreinfo.symbol("mem_section"), roots * memory.word_size)
    pointers = np.frombuffer(table, dtype=word)
    present: list[tuple[int, int]] = []
    for root in np.flatnonzero(pointers).tolist():
        page = memory.read(int(pointers[root]), per_root * section_size)
        rows = np.frombuffer(page, dtype=np.uint8).reshape(per_root, section_size)
        maps = rows[:, map_at : map_at + memory.word_size].copy().view(word)[:, 0]
        numbers = root * per_root + np.flatnonzero(maps & word.type(_PRESENT))
        present += [(n << shift, (n + 1) << shift) for n in numbers.tolist()]
    return normalise(np.array(present, dtype=np.int64).reshape(-1, 2))
