"""Translate a few virtual addresses with one read per level, which costs almost nothing.

``core.paging.walk`` looks at every table. A single address is enough to check that page tables are
where they are expected, and the addresses of its pages to find a part of an array.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vmcorefs.core.paging.formats import PageTableFormat
from vmcorefs.core.paging.walk import ReadTables, output_address, table_address
from vmcorefs.core.space.ranges import Int64Array, distinct

ReadEntry = Callable[[int], int]
"""``read_entry(paddr)`` returns the table entry at a physical address; raises ``VmcorefsError``."""


def entry_offset(fmt: PageTableFormat, level: int, vaddr: int) -> int:
    """Where the entry for ``vaddr`` is in its table of ``level`` (0: root), in bytes."""
    return (vaddr >> fmt.shift(level) & ((1 << fmt.level_bits[level]) - 1)) * 8


def translate(fmt: PageTableFormat, root: int, vaddr: int, read_entry: ReadEntry) -> int | None:
    """The physical address that ``vaddr`` maps to, or None if nothing is mapped there.

    Args:
        fmt: The format of the tables.
        root: Physical address of the root.
        vaddr: Signed or unsigned.
        read_entry: Reads an entry.

    Raises:
        VmcorefsError: whatever ``read_entry`` raises.
    """
    shift, allowed = _canonical(fmt)
    if (vaddr - (1 << 64) if vaddr >> 63 == 1 else vaddr) >> shift not in allowed:
        return None
    table = root
    for level in range(fmt.levels):
        entry = read_entry(table + entry_offset(fmt, level, vaddr))
        mask, value = fmt.use(level)
        if entry & mask != value:
            return None
        one = np.array([entry], dtype=np.uint64)
        shift, last = fmt.shift(level), level == fmt.levels - 1
        if last or bool(entry & fmt.leaf_mask) == fmt.leaf_value:
            size = 1 << shift
            sound = entry & fmt.page_mask if last else shift in fmt.large_shifts
            return int(output_address(fmt, one)[0]) & -size | vaddr & size - 1 if sound else None
        table = int(table_address(fmt, one)[0])
    return None


def translate_pages(
    fmt: PageTableFormat, root: int, vaddrs: Int64Array, read_tables: ReadTables
) -> Int64Array:
    """The physical address that each of many virtual addresses maps to; best if they are close.

    Args:
        fmt: The format of the tables.
        root: Physical address of the root.
        vaddrs: Addresses as two's complement, shape ``(n,)``, int64.
        read_tables: Reads tables.

    Returns:
        Shape ``(n,)``, int64; -1 where nothing is mapped, or a table cannot be read.

    Raises:
        VmcorefsError: whatever ``read_tables`` raises.
    """
    paddrs = np.full(len(vaddrs), -1, dtype=np.int64)
    shift, allowed = _canonical(fmt)
    rows = np.flatnonzero(np.isin(vaddrs >> shift, allowed))
    table = np.full(len(rows), root, dtype=np.int64)
    for level in range(fmt.levels if len(rows) else 0):
        tables = distinct(table)
        entries, readable = read_tables(tables, fmt.entries(level))
        shift, last = fmt.shift(level), level == fmt.levels - 1
        which = np.searchsorted(tables, table)
        column = vaddrs[rows] >> shift & ((1 << fmt.level_bits[level]) - 1)
        entry = entries[which, column]
        mask, value = map(np.uint64, fmt.use(level))
        valid = ((entry & mask) == value) & readable[which]
        rows, entry = rows[valid], entry[valid]
        output = output_address(fmt, entry)
        leaf = ((entry & np.uint64(fmt.leaf_mask)) != 0) == fmt.leaf_value
        if last:
            leaf = np.ones(len(rows), dtype=np.bool_)
            sound = (entry & np.uint64(fmt.page_mask)) != 0
        else:
            sound = leaf & (shift in fmt.large_shifts)
        size = 1 << shift
        paddrs[rows[sound]] = output[sound] & -size | vaddrs[rows[sound]] & (size - 1)
        rows, table = rows[~leaf], table_address(fmt, entry[~leaf])
        if not len(rows):
            break
    return paddrs


def _canonical(fmt: PageTableFormat) -> tuple[int, tuple[int, ...]]:
    """How far to shift an address to get the bits above its index, and their allowed values.

    x86-64 and riscv64 require copies of the index's highest bit, arm64's TTBR1 requires ones, and
    ppc64 has a quadrant's number there.
    """
    bits = fmt.shift(0) + fmt.level_bits[0]
    return (bits - 1, (-1, 0)) if fmt.base is None else (bits, (fmt.base >> bits,))
