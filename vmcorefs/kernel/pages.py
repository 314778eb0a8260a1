"""What each page of the dead machine was used for, from its kernel's own page array.

The array is a 64th of memory, 384 GiB of 24 TiB. It is read on demand, a block at a time, and each
block's place is looked up in the page tables then: only the list of the array's pieces grows with
the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vmcorefs.core.pages.dump_level import KindArray, PageKind
from vmcorefs.core.pages.page_array import PageArray, find_page_array
from vmcorefs.core.pages.page_kinds import Structs, read_structs, spread
from vmcorefs.core.pages.struct_page import StructPage, read_struct_page
from vmcorefs.core.space.ranges import Int64Array, distinct
from vmcorefs.errors import FaultError, FormatError, UnsupportedError
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.kernel.lru_cache import LruCache
from vmcorefs.kernel.page_tables import TableLookup
from vmcorefs.kernel.virtual import LoadLookup, Translation, read_into, read_through

if TYPE_CHECKING:
    from vmcorefs.kernel.kernel import Kernel

BLOCK = 1 << 15
"""Pages handled at a time: 128 MiB on x86-64, whose structures take 2 MiB."""

_BLOCK_ORDER = BLOCK.bit_length() - 1
_FEW_ORDER = 9  # pages of a block of which only some are asked for: 2 MiB on x86-64
_KEPT_BLOCKS = 64
_KEPT_SPANS = 1 << 10
_ADDRESSES = 1 << 64

ReadInto = Callable[[int, memoryview], list[tuple[int, int]]]
"""``read(vaddr, buffer)`` fills the buffer and returns the ranges of it that are missing."""


def find_kernel_pages(kernel: Kernel) -> KernelPages:
    """Find a kernel's page array, and the layout of its structures.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or a value cannot be true.
        FaultError: if no input holds memory that has to be read.
        SourceIOError: if an input cannot be read.
    """
    memory, order, word_size = kernel.memory, kernel.byte_order, kernel.word_size
    # without walking all page tables, which takes minutes on a large machine
    lookup = _find_lookup(kernel)
    virtual = read_through(memory, lookup, byte_order=order, word_size=word_size)

    def read_btf() -> bytes | None:
        try:
            return kernel.types
        except (FaultError, FormatError):
            return None

    layout = read_struct_page(kernel.vmcoreinfo, order, word_size, read_btf)
    array = find_page_array(kernel.vmcoreinfo, virtual)
    return KernelPages(array, layout, partial(read_into, memory, lookup))


def _find_lookup(kernel: Kernel) -> Translation:
    """The kernel's page tables, or the PT_LOADs if those cannot be walked."""
    try:
        fmt, root = locate_page_tables(kernel.machine, kernel.vmcoreinfo)
    except (FormatError, UnsupportedError):
        if kernel.elfcorehdr is None:
            raise
        return LoadLookup(kernel.elfcorehdr, kernel.vmcoreinfo.page_size)
    return TableLookup(kernel.memory, fmt, root, kernel.byte_order)


class KernelPages:
    """What pages were used for, from the kernel's own page array.

    Attributes:
        array: Where the page array is.
        layout: How to read its structures.
    """

    def __init__(self, array: PageArray, layout: StructPage, read: ReadInto) -> None:
        self.array = array
        self.layout = layout
        self._read_into = read
        self._buffers = threading.local()
        self._blocks: LruCache[int, KindArray] = LruCache(_KEPT_BLOCKS)
        self._spans: LruCache[int, tuple[int, int]] = LruCache(_KEPT_SPANS)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not known, and the consequence; a sentence each."""
        return self.layout.unknown

    @property
    def page_size(self) -> int:
        """Bytes in a page of the crashed kernel."""
        return self.layout.page_size

    def of(self, first: int, count: int) -> KindArray:
        """The kinds of the pages ``[first, first + count)``, by page frame number.

        A page that no page array describes, or whose structure the image does not hold, is
        ``KERNEL``: it is kept. ``ZERO`` is never returned. Several threads may call this.

        Raises:
            SourceIOError: if an input cannot be read.
        """
        kinds = np.full(count, PageKind.KERNEL, dtype=np.uint8)
        for start in range(first - first % BLOCK, first + count, BLOCK):
            low, high = max(start, first), min(start + BLOCK, first + count)
            block = self._blocks.get(start, self._look_at)
            kinds[low - first : high - first] = block[low - start : high - start]
        return kinds

    def of_each(self, pfns: Int64Array) -> KindArray:
        """The kinds of pages here and there, as ``of`` has them: it reads less for each.

        Args:
            pfns: Page frame numbers, shape ``(n,)``, sorted.
        """
        kinds = np.full(len(pfns), PageKind.KERNEL, dtype=np.uint8)
        starts = distinct(pfns & -1 << _FEW_ORDER)
        first = np.append(np.searchsorted(pfns, starts), len(pfns)).tolist()
        for start, low, high in zip(starts.tolist(), first, first[1:], strict=False):
            kinds[low:high] = self._look_at(start, _FEW_ORDER)[pfns[low:high] - start]
        return kinds

    def _look_at(self, start: int, block_order: int = _BLOCK_ORDER) -> KindArray:
        """The kinds of a block, of ``2**block_order`` pages."""
        structs = getattr(self._buffers, "structs", None)
        if structs is None:  # one per thread: a new one would take fresh pages each time
            structs = self._buffers.structs = np.empty((BLOCK + 1, self.layout.size), np.uint8)
        structs = structs[: (1 << block_order) + 1]
        self._read(start, structs)
        uses = read_structs(structs, start, self.layout)
        for order in range(self.layout.max_order, block_order, -1):
            first = start & -1 << order
            if first < start:
                kind, size = self._spans.get(first, self._look_at_one)
                if first + size > start:
                    return spread(uses.within(kind))
        return spread(uses)

    def _look_at_one(self, pfn: int) -> tuple[int, int]:
        """The kind of one page, and for how many pages it speaks."""
        structs = np.empty((3, self.layout.size), np.uint8)
        self._read(pfn, structs)
        uses = read_structs(structs, pfn, self.layout)
        return int(uses.kind[0]), 1 << int(uses.order[0])

    def _read(self, first: int, structs: Structs) -> None:
        """Read the structures from ``first`` on: zeros for those not there, and in the last row."""
        array, size = self.array, self.layout.size
        last = first + len(structs) - 1
        done = first
        row = int(np.searchsorted(array.pfn + array.count, first, side="right"))
        while row < len(array.pfn) and array.pfn[row] < last:
            begin = max(int(array.pfn[row]), first)
            end = min(int(array.pfn[row] + array.count[row]), last)
            structs[done - first : begin - first] = 0
            rows = structs[begin - first : end - first]
            vaddr = int(array.vaddr[row]) + (begin - int(array.pfn[row])) * size
            lost = self._read_into(vaddr % _ADDRESSES, rows.reshape(-1).data)
            for start, stop in lost:  # an incomplete structure does not count
                rows[start // size : -(-stop // size)] = 0
            done, row = end, row + 1
        structs[done - first :] = 0
