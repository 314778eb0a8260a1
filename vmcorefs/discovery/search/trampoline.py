"""The VMCOREINFO of the kernel that ran last, by the page tables with which its CPUs were started.

A CPU of x86 starts in real mode, below 1 MiB, and reaches the kernel by page tables that are there
too. Since Linux 5.17 their root has the whole of the kernel's half of the address space
(arch/x86/realmode/init.c, ``setup_real_mode``). It leads to the kernel's image, whose variables
lead to the note: a few megabytes are read where a scan reads all memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmcorefs.core.paging.formats import Access, PageTableFormat, x86_64
from vmcorefs.core.paging.lookup import translate_pages
from vmcorefs.core.paging.mappings import UInt64Array
from vmcorefs.core.paging.walk import Limits, ReadTables, walk
from vmcorefs.core.space.columns import BoolArray
from vmcorefs.core.space.ranges import Int64Array, make_ranges
from vmcorefs.kernel.arch.x86_64 import START_KERNEL_MAP
from vmcorefs.kernel.page_tables import table_reader
from vmcorefs.reader import Reader
from vmcorefs.sources.unreadable import read_around

LOW_END = 0xA0000
"""640 KiB: no RAM of a PC that real mode reaches is above."""

_ENTRIES = 512
_TABLE_SIZE = 4096
_PRESENT = 1  # _PAGE_PRESENT (arch/x86/include/asm/pgtable_types.h)
_LARGE = 1 << 7
_MAX_ROOTS = 8
_LIMITS = Limits(tables=2 * _ENTRIES, runs=1 << 12)
_IMAGE_SIZE = 1 << 30  # KERNEL_IMAGE_SIZE (arch/x86/include/asm/page_64_types.h)
_KERNEL_HALF = 0xFF00 << 48
_MAX_VARIABLES = 64 << 20
_CHUNK = 1 << 20
_SIZES = range(256, 4097)  # vmcoreinfo_size: VMCOREINFO_BYTES is a page
_BESIDE = np.array([-3, -2, -1, 1, 2, 3])
_MAX_POINTERS = 1 << 12


def find_notes(memory: Reader) -> Iterator[int]:
    """Physical addresses of pages that may begin with the note, the likeliest first.

    Args:
        memory: By physical address.

    Raises:
        SourceIOError: if an input cannot be read.
    """
    for fmt, root in _iter_roots(memory):
        read_tables = table_reader(memory, fmt)
        left = _MAX_POINTERS
        for words in _iter_variables(memory, fmt, root, read_tables):
            pointers = _find_pointers(words)[:left]
            left -= len(pointers)
            found = translate_pages(fmt, root, pointers.astype(np.int64), read_tables)
            yield from dict.fromkeys(found[found >= 0].tolist())


def _iter_roots(memory: Reader) -> Iterator[tuple[PageTableFormat, int]]:
    """What may be a root in low memory: its last entry names a table, that of the image."""
    low = np.zeros(LOW_END, dtype=np.uint8)
    read_around(memory.pread_into, 0, low.data)
    last = low.view(np.uint64).reshape(-1, _ENTRIES)[:, -1]
    rows = np.flatnonzero((last & np.uint64(_PRESENT | _LARGE)) == _PRESENT)
    _, first = np.unique(last[rows], return_index=True)
    for row in rows[np.sort(first)][:_MAX_ROOTS].tolist():
        for levels in (4, 5):
            yield x86_64(levels=levels), row * _TABLE_SIZE


def _iter_variables(
    memory: Reader, fmt: PageTableFormat, root: int, read_tables: ReadTables
) -> Iterator[UInt64Array]:
    """What is writable of the image, chunk by chunk, the last one first: .bss is at the end."""
    mapped = walk(fmt, root, _only_image(fmt, read_tables), limits=_LIMITS)
    start = START_KERNEL_MAP - (1 << 64)
    inside = (start <= mapped.vaddr) & (mapped.vaddr < start + _IMAGE_SIZE)
    rows = np.flatnonzero(inside & ((mapped.flags & Access.WRITABLE) != 0))
    chunk = np.empty(_CHUNK, dtype=np.uint8)
    left = _MAX_VARIABLES
    for row in rows[::-1].tolist():
        run = make_ranges([(int(mapped.paddr[row]), int(mapped.paddr[row] + mapped.size[row]))])
        for first, end in memory.data_ranges(run, _CHUNK)[::-1].tolist():
            for start in range(max(first, end - left), end, _CHUNK)[::-1]:
                size = min(end - start, _CHUNK)
                left -= size
                read_around(memory.pread_into, start, chunk.data[:size])
                yield chunk[: size // 8 * 8].view(np.uint64)


def _only_image(fmt: PageTableFormat, read_tables: ReadTables) -> ReadTables:
    """The same tables, the first of which have only the entry that leads to the image."""
    columns = iter([_ENTRIES - 1] * (fmt.levels - 3) + [_ENTRIES - 2])

    def read(paddrs: Int64Array, count: int) -> tuple[UInt64Array, BoolArray]:
        entries, readable = read_tables(paddrs, count)
        column = next(columns, None)
        if column is None:
            return entries, readable
        return np.where(np.arange(_ENTRIES) == column, entries, np.uint64(0)), readable

    return read


def _find_pointers(words: UInt64Array) -> UInt64Array:
    """Addresses of pages in the direct map that have a size such as the note's beside them.

    ``vmcoreinfo_note`` and ``vmcoreinfo_size`` are neighbours in .bss (kernel/vmcore_info.c).
    """
    at = np.flatnonzero(
        ((words % _TABLE_SIZE) == 0) & (words >= _KERNEL_HALF) & (words < START_KERNEL_MAP)
    )
    beside = words[np.clip(at[:, None] + _BESIDE, 0, len(words) - 1)]
    looks = ((beside >= _SIZES.start) & (beside < _SIZES.stop)).any(axis=1)
    found: UInt64Array = words[at[looks]]
    return found
