"""One virtual address, translated with a read for each level: a check that costs almost nothing.

``core.paging.walk`` looks at every table. Whether page tables are where somebody thinks they are is
told by a single address.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vmcorefs.core.paging import output_address
from vmcorefs.core.paging_formats import VALID, PageTableFormat

ReadEntry = Callable[[int], int]
"""``read_entry(paddr)``: the table entry at a physical address, or a ``VmcorefsError``."""


def entry_offset(fmt: PageTableFormat, level: int, vaddr: int) -> int:
    """Where the entry of ``vaddr`` stands in its table of ``level`` (0: root), in bytes."""
    return (vaddr >> fmt.shift(level) & ((1 << fmt.level_bits[level]) - 1)) * 8


def translate(fmt: PageTableFormat, root: int, vaddr: int, read_entry: ReadEntry) -> int | None:
    """The physical address behind ``vaddr``, or None if nothing is mapped there.

    Args:
        fmt: The format of the tables.
        root: Physical address of the root.
        vaddr: Signed or unsigned.
        read_entry: Reads an entry.

    Raises:
        VmcorefsError: what ``read_entry`` raises.
    """
    table = root
    for level in range(fmt.levels):
        entry = read_entry(table + entry_offset(fmt, level, vaddr))
        if not entry & VALID:
            return None
        table = int(output_address(fmt, np.array([entry], dtype=np.uint64))[0])
        shift, last = fmt.shift(level), level == fmt.levels - 1
        if last or bool(entry & fmt.leaf_mask) == fmt.leaf_value:
            size = 1 << shift
            sound = entry & fmt.page_mask if last else shift in fmt.large_shifts
            return table & -size | vaddr & size - 1 if sound else None
    return None
