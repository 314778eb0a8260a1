"""The crashed kernel's own page tables, found through VMCOREINFO and walked.

The root is ``swapper_pg_dir``, that of ``init_mm``: its upper half maps the kernel's memory. With
page table isolation (arch/x86/mm/pti.c) it still is complete; only user space's copy of the root,
one page after it, lacks most entries.
"""

from __future__ import annotations

import numpy as np

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.formats import PageTableFormat
from vmcorefs.core.paging.lookup import translate_pages
from vmcorefs.core.paging.mappings import Mappings, UInt64Array
from vmcorefs.core.paging.walk import Limits, ReadTables, walk
from vmcorefs.core.space.columns import BoolArray
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.errors import FaultError
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.kernel.lru_cache import LruCache
from vmcorefs.reader import Reader

_KEPT_TABLES = 256  # of 4 KiB; those near the root are used again and again


def find_page_tables(
    memory: Reader,
    machine: int,
    vmcoreinfo: Vmcoreinfo,
    *,
    byte_order: ByteOrder = "<",
    limits: Limits | None = None,
) -> Mappings:
    """Walk the kernel's page tables.

    Args:
        memory: The crashed kernel's memory, by physical address.
        machine: ``EM_*``.
        vmcoreinfo: Where they are, and in what format.
        byte_order: Of the crashed machine.
        limits: How far to go; by default as far as ``Limits`` says, but with no more tables than
            fit into an eighth of ``memory``.

    Returns:
        What they map; tables that ``memory`` does not hold are listed in its ``problems``.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or one of them cannot be true.
        UnsupportedError: if the machine or its format is none of those that can be walked.
        SourceIOError: if an input cannot be read.
    """
    fmt, root = locate_page_tables(machine, vmcoreinfo)
    if limits is None:
        held = int(memory.table.only(Kind.DATA).size.sum())
        limits = Limits(tables=min(Limits().tables, max((held >> fmt.page_shift) // 8, 1 << 10)))
    return walk(fmt, root, table_reader(memory, fmt, byte_order), limits=limits)


def table_reader(memory: Reader, fmt: PageTableFormat, byte_order: ByteOrder = "<") -> ReadTables:
    """Return a ``read_tables`` for ``walk`` that reads tables of ``fmt`` through ``memory``."""
    dtype = np.dtype(">u8" if fmt.big_endian else f"{byte_order}u8")
    # what is not RAM (HOLE) may read as zeros, but cannot contain tables
    held = memory.table.only(Kind.DATA, Kind.ZERO)

    def read_tables(paddrs: Int64Array, count: int) -> tuple[UInt64Array, BoolArray]:
        raw = np.zeros((len(paddrs), count), dtype=dtype)
        readable = _are_held(held, paddrs)
        for row in np.flatnonzero(readable).tolist():
            try:
                memory.pread_into(int(paddrs[row]), memoryview(raw[row]).cast("B"))
            except FaultError:
                readable[row] = False
        return raw.astype(np.uint64, copy=False), readable

    return read_tables


class TableLookup:
    """Translates addresses through page tables without walking all of them."""

    def __init__(
        self, memory: Reader, fmt: PageTableFormat, root: int, byte_order: ByteOrder
    ) -> None:
        self._fmt = fmt
        self._root = root
        self._read_from_memory = table_reader(memory, fmt, byte_order)
        self._recent: LruCache[tuple[int, int], tuple[UInt64Array, BoolArray]] = LruCache(
            _KEPT_TABLES
        )

    @property
    def page_size(self) -> int:
        """Bytes in the smallest page."""
        return 1 << self._fmt.page_shift

    def translate_many(self, vaddrs: UInt64Array) -> Int64Array:
        """The physical address that each virtual address maps to, int64; -1 where unmapped."""
        return translate_pages(self._fmt, self._root, vaddrs.astype(np.int64), self._read_tables)

    def _read_tables(self, paddrs: Int64Array, count: int) -> tuple[UInt64Array, BoolArray]:
        found = [self._recent.get((paddr, count), self._read_table) for paddr in paddrs.tolist()]
        if len(found) == 1:
            return found[0]
        entries, readable = zip(*found, strict=True)
        return np.concatenate(entries), np.concatenate(readable)

    def _read_table(self, key: tuple[int, int]) -> tuple[UInt64Array, BoolArray]:
        paddr, count = key
        return self._read_from_memory(np.array([paddr], dtype=np.int64), count)


def _are_held(table: Extents, paddrs: Int64Array) -> BoolArray:
    """Whether each page table begins in an extent: most hostile ones do not, and cost nothing."""
    if not len(table):
        return np.zeros(len(paddrs), dtype=bool)
    row = np.searchsorted(table.start, paddrs, side="right") - 1
    held: BoolArray = (row >= 0) & (paddrs < table.end[row])
    return held
