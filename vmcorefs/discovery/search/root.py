"""Where a kernel's page tables are in a file whose physical address is not known.

VMCOREINFO has their physical address. A root in the file that maps itself gives the distance of the
file, at that place, from the physical address space: the address minus the offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.formats import PageTableFormat
from vmcorefs.core.paging.lookup import entry_offset, translate
from vmcorefs.core.paging.walk import table_address
from vmcorefs.core.space.placement import PCI_HOLE_END, USUAL_SPLITS
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.discovery.search.scan import GRID, iter_chunks
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.reader import Reader

MAX_TRIES = 1 << 16
"""Most places that look like the root to examine closely."""


def find_deltas(
    file: Reader, fmt: PageTableFormat, root: int, vmcoreinfo: Vmcoreinfo, *, search: bool
) -> Iterator[int]:
    """Each distance from file offset to physical address at which the root fits.

    Args:
        file: The file by offset.
        fmt: The format of the page tables.
        root: Their physical address.
        vmcoreinfo: The kernel's.
        search: Search the whole file, not just the usual distances, which cost nothing.

    Raises:
        SourceIOError: if the file cannot be read.
    """
    if root > MAX_ADDRESS:
        return
    vaddr = vmcoreinfo.symbol("swapper_pg_dir")
    deltas = _search(file, fmt, root, vaddr) if search else _likely(vmcoreinfo)
    for delta in deltas:
        if maps_itself(file, fmt, root, vaddr, delta):
            yield delta


def maps_itself(file: Reader, fmt: PageTableFormat, root: int, vaddr: int, delta: int) -> bool:
    """Whether page tables at ``root`` map ``vaddr`` to ``root``, if paddr is offset + delta.

    Raises:
        SourceIOError: if the file cannot be read.
    """

    def read_entry(paddr: int) -> int:
        return int.from_bytes(file.pread(8, paddr - delta), "big" if fmt.big_endian else "little")

    try:
        return translate(fmt, root, vaddr, read_entry) == root
    except VmcorefsError:
        return False


def _likely(vmcoreinfo: Vmcoreinfo) -> Iterable[int]:
    deltas = [0, 1 << 30, 1 << 31, *(PCI_HOLE_END - low for low in USUAL_SPLITS)]
    for key in ("PHYS_OFFSET", "phys_ram_base"):  # arm64, riscv64
        with suppress(FormatError):
            # arm64 KASLR puts PHYS_OFFSET below RAM; riscv's is the kernel's, above where RAM is
            deltas.append(vmcoreinfo.number(key) >> 30 << 30)
    return dict.fromkeys(deltas)


def _search(file: Reader, fmt: PageTableFormat, root: int, vaddr: int) -> Iterator[int]:
    """Distances at which the file has something that looks like the root."""
    if not len(file.table):
        return
    size = int(file.table.end[-1])
    skip = int(file.table.offset[0])  # bytes before the memory
    at = entry_offset(fmt, 0, vaddr)
    column = at % GRID // 8
    tries = 0
    for _, start, words in iter_chunks(file.sources, file.table):
        entries = words.view(">u8" if fmt.big_endian else "<u8")[:, column].astype(np.uint64)
        offset = start - skip + np.arange(len(entries), dtype=np.int64) * GRID - at // GRID * GRID
        table = table_address(fmt, entries) + offset - root
        mask, value = map(np.uint64, fmt.use(0))
        fits = (entries & mask == value) & (offset >= 0)
        fits &= (table >= 0) & (table < size)
        for place in offset[fits].tolist():
            tries += 1
            if tries > MAX_TRIES:
                return
            yield root - place
