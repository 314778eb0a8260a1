"""What each page of a dead machine was used for, read from its kernel's own page array.

The array is a 64th of memory, 384 GiB of 24 TiB. It is read a block at a time, when somebody asks,
and where a block lies is looked up in the page tables then: nothing grows with the machine but the
list of the array's pieces.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from vmcorefs.core.dump_level import KindArray, PageKind
from vmcorefs.core.elfcorehdr import Elfcorehdr
from vmcorefs.core.kallsyms import read_symbols
from vmcorefs.core.kernel_memory import KernelMemory
from vmcorefs.core.page_array import PageArray, find_page_array
from vmcorefs.core.page_kinds import Structs, read_structs, spread
from vmcorefs.core.struct_page import StructPage, read_struct_page
from vmcorefs.core.units import PAGE_SIZE
from vmcorefs.core.vmcoreinfo import Vmcoreinfo
from vmcorefs.discovery.page_tables import TableLookup, locate_page_tables
from vmcorefs.discovery.symbols import find_btf
from vmcorefs.discovery.virtual import read_through, through_loads
from vmcorefs.errors import FaultError, FormatError, UnsupportedError
from vmcorefs.reader import Reader

BLOCK = 1 << 15
"""Pages that are looked at together: 128 MiB of x86-64's, whose structures are 2 MiB."""

_BLOCK_ORDER = BLOCK.bit_length() - 1
_KEPT_BLOCKS = 64
_KEPT_SPANS = 1 << 10
_ADDRESSES = 1 << 64

Value = TypeVar("Value")


def find_kernel_pages(
    memory: Reader, vmcoreinfo: Vmcoreinfo, elfcorehdr: Elfcorehdr
) -> KernelPages:
    """Find a kernel's page array, and how its structures are read.

    Args:
        memory: The crashed kernel's memory, by physical address.
        vmcoreinfo: The crashed kernel's.
        elfcorehdr: Machine, byte order, and where the kernel's image is mapped.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or what is found cannot be true.
        SourceIOError: if an input cannot be read.
    """
    virtual = _virtual_memory(memory, vmcoreinfo, elfcorehdr)

    def read_btf() -> bytes | None:
        try:
            image = through_loads(memory, elfcorehdr)
            return find_btf(read_symbols(vmcoreinfo, image), image)[0]
        except (FaultError, FormatError):
            return None

    layout = read_struct_page(vmcoreinfo, virtual.byte_order, virtual.word_size, read_btf)
    return KernelPages(find_page_array(vmcoreinfo, virtual), layout, virtual)


def _virtual_memory(memory: Reader, vmcoreinfo: Vmcoreinfo, elfcorehdr: Elfcorehdr) -> KernelMemory:
    """The kernel's virtual memory: through its page tables, or as far as the PT_LOADs show it."""
    header = elfcorehdr.header
    loads = through_loads(memory, elfcorehdr)
    try:
        fmt, root = locate_page_tables(header.e_machine, vmcoreinfo)
    except (FormatError, UnsupportedError):
        return loads
    lookup = TableLookup(memory, fmt, root, header.byte_order)
    return read_through(memory, lookup, byte_order=header.byte_order, word_size=loads.word_size)


class KernelPages:
    """What pages were used for, by the kernel's own page array.

    Attributes:
        array: Where the page array is.
        layout: How its structures are read.
    """

    def __init__(self, array: PageArray, layout: StructPage, virtual: KernelMemory) -> None:
        self.array = array
        self.layout = layout
        self._virtual = virtual
        self._blocks: _Cache[KindArray] = _Cache(_KEPT_BLOCKS)
        self._spans: _Cache[tuple[int, int]] = _Cache(_KEPT_SPANS)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What cannot be told, and what becomes of it; a sentence each."""
        return self.layout.unknown

    @property
    def page_size(self) -> int:
        """Bytes in a page of the crashed kernel."""
        return self.layout.page_size

    def of(self, first: int, count: int) -> KindArray:
        """The kinds of the pages ``[first, first + count)``, by page frame number.

        A page that no page array describes, or whose structure the image does not hold, is
        ``KERNEL``: it is kept. ``ZERO`` is never told here. May be asked from several threads.

        Raises:
            SourceIOError: if an input cannot be read.
        """
        kinds = np.full(count, PageKind.KERNEL, dtype=np.uint8)
        for start in range(first - first % BLOCK, first + count, BLOCK):
            low, high = max(start, first), min(start + BLOCK, first + count)
            block = self._blocks.get(start, self._look_at)
            kinds[low - first : high - first] = block[low - start : high - start]
        return kinds

    def _look_at(self, start: int) -> KindArray:
        """The kinds of a block."""
        told = read_structs(self._read(start, BLOCK), start, self.layout)
        for order in range(self.layout.max_order, _BLOCK_ORDER, -1):
            first = start & -1 << order
            if first < start:
                kind, size = self._spans.get(first, self._look_at_one)
                if first + size > start:
                    return spread(told.within(kind))
        return spread(told)

    def _look_at_one(self, pfn: int) -> tuple[int, int]:
        """The kind of one page, and how many pages it tells for."""
        told = read_structs(self._read(pfn, 2), pfn, self.layout)
        return int(told.kind[0]), 1 << int(told.order[0])

    def _read(self, first: int, count: int) -> Structs:
        """The structures of ``count`` pages, zeros for those not there, and a row of zeros."""
        array, size = self.array, self.layout.size
        structs = np.zeros((count + 1, size), dtype=np.uint8)
        low = int(np.searchsorted(array.pfn + array.count, first, side="right"))
        high = int(np.searchsorted(array.pfn, first + count, side="left"))
        for row in range(low, high):
            begin = max(int(array.pfn[row]), first)
            end = min(int(array.pfn[row] + array.count[row]), first + count)
            vaddr = int(array.vaddr[row]) + (begin - int(array.pfn[row])) * size
            self._fill(structs[begin - first : end - first], vaddr % _ADDRESSES)
        return structs

    def _fill(self, structs: Structs, vaddr: int) -> None:
        """Read the structures from ``vaddr`` on; one that the image does not hold is all zeros."""
        size = self.layout.size
        data = structs.reshape(-1)
        lost: list[tuple[int, int]] = []
        pending = [(0, len(data))]
        while pending:
            start, end = pending.pop()
            try:
                data[start:end] = np.frombuffer(self._virtual.read(vaddr + start, end - start), "B")
            except (FaultError, FormatError):
                # halve it where a page ends, as long as a page ends within it
                middle = (vaddr + (start + end) // 2) & -PAGE_SIZE
                middle = middle if middle > vaddr + start else middle + PAGE_SIZE
                if middle < vaddr + end:
                    pending += [(start, middle - vaddr), (middle - vaddr, end)]
                else:
                    lost.append((start, end))
        for start, end in lost:  # also what was read of a structure that is not all there
            structs[start // size : -(-end // size)] = 0


class _Cache(Generic[Value]):
    """What was worked out last, for several threads; now and then two of them do the same work."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[int, Value] = OrderedDict()

    def get(self, key: int, make: Callable[[int], Value]) -> Value:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make(key)
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value
