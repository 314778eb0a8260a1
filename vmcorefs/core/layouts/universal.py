"""A vmcore that every tool opens: the same memory under headers that all of them accept.

The kernel's own layout (``core/layouts/kernel.py``) has the kernel's text first, out of order and
twice. Here RAM appears once, in order of address and in whole pages; text is an alias that shares
the RAM's place in the file (docs/decisions/0007):

::

    PT_NOTE    the merged notes
    PT_LOAD    RAM, ascending, not overlapping; neighbours of one slide in virtual memory joined
    ...
    PT_LOAD    kernel text: p_paddr -1, p_memsz larger than p_filesz, p_offset inside a RAM segment

volatility3 and LeechCore skip a segment whose p_memsz differs from its p_filesz
(volatility3/framework/layers/elf.py, leechcore/device_file.c); drgn takes a p_paddr of -1 for "no
physical address" (libdrgn/program.c); crash and makedumpfile take the first segment that holds an
address (netdump.c ``read_netdump``, elf_info.c ``paddr_to_offset``), which is RAM.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.elf.elf import (
    ELFCLASS32,
    EM_X86_64,
    PHDR_DTYPE,
    PT_LOAD,
    PhdrTable,
    headers_size,
    pack_headers,
)
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.layouts.kernel import VmcoreLayout, note_phdr
from vmcorefs.core.space.columns import BoolArray, Columns, run_edges
from vmcorefs.core.space.extents import Windows
from vmcorefs.core.space.ranges import Int64Array, Ranges, make_ranges, normalise, pair_overlaps
from vmcorefs.core.space.units import MAX_ADDRESS, align_up
from vmcorefs.errors import LayoutError, UnsupportedError

ALIAS_EXTRA = 1
"""How far p_memsz of an alias is above its p_filesz, in bytes. They must differ, but drgn and gdb
read the difference as zeros, so it is as small as possible."""

UInt64Array = npt.NDArray[np.uint64]


class _Views(Columns, frozen=True, eq=False):
    """Pages of physical memory and their place in virtual memory, sorted by ``start``.

    Attributes:
        start: First physical address, shape ``(n,)``, a page boundary.
        end: One past the last, a page boundary.
        slide: p_vaddr minus p_paddr modulo 2**64; if p_vaddr is not an address (0: not known, all
            ones: high memory), p_vaddr itself.
        placed: Whether p_vaddr is an address, shape ``(n,)``, bool.
        flags: p_flags.
    """

    start: Int64Array
    end: Int64Array
    slide: UInt64Array
    placed: BoolArray
    flags: UInt64Array

    @property
    def vaddr(self) -> UInt64Array:
        return np.where(self.placed, self.slide + self.start.astype(np.uint64), self.slide)


def lay_out_universal(
    elfcorehdr: Elfcorehdr,
    notes_size: int,
    vmcoreinfo: Vmcoreinfo | None,
    *,
    page_size: int,
    note_align: int,
) -> VmcoreLayout:
    """Lay out the memory named by an elfcorehdr, for every tool.

    Its PT_LOADs are read by ``p_paddr``: low memory comes from its own place, not from the backup
    region.

    Args:
        elfcorehdr: Which memory, and its virtual addresses.
        notes_size: Bytes that the notes of all slots take, trimmed and joined.
        vmcoreinfo: The crashed kernel's, if it is known.
        page_size: Of the crashed kernel, in bytes.
        note_align: ``p_align`` of the PT_NOTE.

    Raises:
        UnsupportedError: on x86-64 with an alias and no NUMBER(phys_base) in VMCOREINFO: crash then
            takes p_paddr of the first kernel-text segment for it (crash's x86_64.c,
            ``x86_64_calc_phys_base``), and an alias has none.
        LayoutError: if the file would end beyond ``MAX_ADDRESS``.
    """
    ram, aliases = _split(_views(elfcorehdr, page_size))
    header = elfcorehdr.header
    if len(aliases.start) and header.e_machine == EM_X86_64:
        _require_phys_base(vmcoreinfo)

    phnum = 1 + len(ram.start) + len(aliases.start)
    head_size = align_up(headers_size(header, phnum), page_size)
    data_offset = head_size + align_up(notes_size, page_size)
    size = ram.end - ram.start
    # RAM does not overlap and ends below MAX_ADDRESS + a page, so the sum cannot wrap
    end = data_offset + int(size.sum())
    if end > MAX_ADDRESS:
        raise LayoutError(f"the vmcore would have {end} bytes, more than {MAX_ADDRESS}")
    windows = Windows(ram.start, size, data_offset + np.cumsum(size) - size)

    no_paddr = 2**32 - 1 if header.elf_class == ELFCLASS32 else 2**64 - 1
    phdrs = np.concatenate(
        (
            note_phdr(head_size, notes_size, note_align),
            _ram_phdrs(ram, windows, no_paddr),
            _alias_phdrs(aliases, windows, no_paddr),
        )
    )
    return VmcoreLayout(
        header=header,
        phdrs=phdrs,
        head=pack_headers(header, phdrs, size=head_size),
        notes=make_ranges([(head_size, head_size + notes_size)]),
        windows=windows,
        moved=np.zeros(len(size), dtype=np.bool_),
        loads=_in_file(elfcorehdr.ram, windows),
        size=end,
        page_size=page_size,
    )


def _views(elfcorehdr: Elfcorehdr, page_size: int) -> _Views:
    """The elfcorehdr's PT_LOADs, rounded outward to pages, in order of address.

    If several start at one page, the longest comes first, and of equal ones the last: kexec writes
    the kernel's text before RAM.
    """
    loads = elfcorehdr.loads
    mask = page_size - 1
    paddr = loads["p_paddr"].astype(np.int64)
    start = paddr & ~mask
    end = (paddr + loads["p_memsz"].astype(np.int64) + mask) & ~mask
    nowhere = 2**32 - 1 if elfcorehdr.header.elf_class == ELFCLASS32 else 2**64 - 1
    vaddr = loads["p_vaddr"]
    placed = (vaddr != 0) & (vaddr != np.uint64(nowhere))
    slide = np.where(placed, vaddr - loads["p_paddr"], vaddr)
    order = np.lexsort((-np.arange(len(loads)), -end, start))
    return _Views(start, end, slide, placed, loads["p_flags"].astype(np.uint64)).rows(order)


def _split(views: _Views) -> tuple[_Views, _Views]:
    """Divide into RAM, which has every page once, and aliases, which show RAM at other addresses.

    ::

        views    |AAAAAAAAAAAAAAAA|       RAM      |AAAAAAAAAAAAAAAA|BBBB|
                     |ttt|                aliases      |ttt|
                              |BBBBBBBB|                        |BBB|
    """
    reach = np.maximum.accumulate(views.end)
    before = np.concatenate(([0], reach[:-1])).astype(np.int64)[: len(views.end)]
    own = np.maximum(views.start, before)
    ram = _join(replace(views, start=own).rows(own < views.end))

    shown = np.minimum(views.end, before)
    again = replace(views, end=shown).rows((views.start < shown) & views.placed)
    below = ram.rows(np.searchsorted(ram.start, again.start, side="right") - 1)
    same = below.placed & (below.slide == again.slide) & (again.end <= below.end)
    return ram, again.rows(~same)


def _join(ram: _Views) -> _Views:
    """Join neighbours that are also neighbours in virtual memory."""
    if len(ram.start) < 2:
        return ram
    joins = (
        (ram.start[1:] == ram.end[:-1])
        & (ram.placed[1:] == ram.placed[:-1])
        & (ram.slide[1:] == ram.slide[:-1])
    )
    first, last = run_edges(joins)
    return replace(ram.rows(first), end=ram.end[last])


def _require_phys_base(vmcoreinfo: Vmcoreinfo | None) -> None:
    if vmcoreinfo is not None and "NUMBER(phys_base)" in vmcoreinfo.values:
        return
    why = "there is no VMCOREINFO" if vmcoreinfo is None else "VMCOREINFO has no NUMBER(phys_base)"
    raise UnsupportedError(
        f"the universal layout needs to know phys_base, but {why} (the kernel provides it since"
        " Linux 4.10): crash would take it from the segment of the kernel's text, which has no"
        " physical address in that layout; use the kernel's layout"
    )


def _ram_phdrs(ram: _Views, windows: Windows, address_mask: int) -> PhdrTable:
    # p_align 0: crash takes a page-aligned segment with any other p_align for a netdump
    phdrs = np.zeros(len(ram.start), dtype=PHDR_DTYPE)
    phdrs["p_type"] = PT_LOAD
    phdrs["p_flags"] = ram.flags
    phdrs["p_offset"] = windows.to
    phdrs["p_vaddr"] = ram.vaddr & np.uint64(address_mask)
    phdrs["p_paddr"] = ram.start
    phdrs["p_filesz"] = phdrs["p_memsz"] = windows.size
    return phdrs


def _alias_phdrs(aliases: _Views, windows: Windows, no_paddr: int) -> PhdrTable:
    row = np.searchsorted(windows.start, aliases.start, side="right") - 1
    phdrs = np.zeros(len(aliases.start), dtype=PHDR_DTYPE)
    phdrs["p_type"] = PT_LOAD
    phdrs["p_flags"] = aliases.flags
    # RAM segments that touch are adjacent in the file, so an alias may continue into the next
    phdrs["p_offset"] = windows.to[row] + (aliases.start - windows.start[row])
    phdrs["p_vaddr"] = aliases.vaddr & np.uint64(no_paddr)
    phdrs["p_paddr"] = no_paddr
    phdrs["p_filesz"] = aliases.end - aliases.start
    phdrs["p_memsz"] = phdrs["p_filesz"] + np.uint64(ALIAS_EXTRA)
    return phdrs


def _in_file(ram: Ranges, windows: Windows) -> Ranges:
    """Where in the file RAM is, without the padding to whole pages."""
    span, window = pair_overlaps(ram[:, 0], ram[:, 1], windows.start, windows.end)
    low = np.maximum(ram[span, 0], windows.start[window])
    high = np.minimum(ram[span, 1], windows.end[window])
    shift = (windows.to - windows.start)[window]
    return normalise(np.stack((low + shift, high + shift), axis=1))
