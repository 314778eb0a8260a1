"""Where everything is in a vmcore: the rules of fs/proc/vmcore.c, as arithmetic.

::

    0            one PT_NOTE, then the PT_LOADs as the elfcorehdr has them, zeros to a page
    H            the merged notes, zeros to a page
    H + N        the first PT_LOAD's pages: all that its range touches
    ...          the next PT_LOAD's pages, and so on; the file ends with the last one's

``p_offset`` of a PT_LOAD points into its pages, so the bytes of its first and last page that are
not its own can be read too, as in the kernel's file.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf.elf import (
    PHDR_DTYPE,
    PT_LOAD,
    PT_NOTE,
    ElfHeader,
    PhdrTable,
    headers_size,
    pack_headers,
    parse_phdrs,
    select_phdrs,
)
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.space.extents import Windows
from vmcorefs.core.space.ranges import Ranges, make_ranges, normalise
from vmcorefs.core.space.units import MAX_ADDRESS, align_up
from vmcorefs.errors import LayoutError

_NOTE_ALIGN_RELEASE = (6, 5)
"""Since this release the merged PT_NOTE has p_align 4, before it 0 (Linux commit 60592fb6b67c
("coredump, vmcore: Set p_align to 4 for PT_NOTE") (in v6.5))."""


class VmcoreLayout(msgspec.Struct, frozen=True):
    """A vmcore without its memory.

    Attributes:
        header: The ELF header, without the number of program headers.
        phdrs: The PT_NOTE, then the PT_LOADs.
        head: ELF header and program headers, padded to whole pages: the file's first bytes.
        notes: The range of the file that the merged notes cover, ``p_filesz`` of the PT_NOTE; a
            normal set. Zeros follow up to a page boundary.
        windows: For each PT_LOAD the physical pages that it shows (by its elfcorehdr ``p_offset``)
            and where they start in the file.
        moved: Which windows show the backup region, ``p_offset`` not being ``p_paddr``; shape
            ``(n,)``, bool.
        loads: The range of the file that each PT_LOAD itself covers, as a normal set: everything
            between them is page padding.
        size: Bytes in the file.
        page_size: What everything but the end of the notes is rounded to, in bytes.
    """

    header: ElfHeader
    phdrs: PhdrTable
    head: memoryview
    notes: Ranges
    windows: Windows
    moved: npt.NDArray[np.bool_]
    loads: Ranges
    size: int
    page_size: int


def note_align(vmcoreinfo: Vmcoreinfo | None) -> int:
    """``p_align`` of the merged PT_NOTE: 4 since Linux 6.5, and 0 before.

    Linux commit 60592fb6b67c ("coredump, vmcore: Set p_align to 4 for PT_NOTE") (in v6.5).
    """
    release = vmcoreinfo.release_version if vmcoreinfo else None
    return 0 if release is not None and release < _NOTE_ALIGN_RELEASE else 4


def note_phdr(offset: int, size: int, align: int) -> PhdrTable:
    """The program header of the merged notes."""
    phdr = np.zeros(1, dtype=PHDR_DTYPE)
    phdr["p_type"] = PT_NOTE
    phdr["p_offset"] = offset
    phdr["p_filesz"] = phdr["p_memsz"] = size
    phdr["p_align"] = align
    return phdr


def lay_out_vmcore(
    elfcorehdr: Elfcorehdr, notes_size: int, *, page_size: int, note_align: int
) -> VmcoreLayout:
    """Lay out the vmcore that the kernel makes from this elfcorehdr and its notes.

    Args:
        elfcorehdr: The plan; its PT_LOADs are taken in their order.
        notes_size: Bytes that the notes of all slots take, trimmed and joined.
        page_size: Of the capture kernel, in bytes.
        note_align: ``p_align`` of the PT_NOTE.

    Raises:
        LayoutError: if the file would end beyond ``MAX_ADDRESS``.
    """
    loads = select_phdrs(elfcorehdr.phdrs, elfcorehdr.phdrs["p_type"] == PT_LOAD)
    phnum = 1 + len(loads)
    head_size = align_up(headers_size(elfcorehdr.header, phnum), page_size)
    data_offset = head_size + align_up(notes_size, page_size)

    source = loads["p_offset"].astype(np.int64)
    mask = page_size - 1
    start = source & ~mask
    pages = ((source + loads["p_memsz"].astype(np.int64) + mask) & ~mask) - start
    # Python's integers do not wrap; numpy's sum of hostile sizes would
    largest = int(pages.max(initial=0))
    hostile = largest > MAX_ADDRESS // max(len(pages), 1)
    size = data_offset + (sum(pages.tolist()) if hostile else int(pages.sum()))
    if size > MAX_ADDRESS:
        raise LayoutError(f"the vmcore would have {size} bytes, more than {MAX_ADDRESS}")
    to = data_offset + np.cumsum(pages) - pages

    p_offset = np.concatenate(([head_size], to + (source - start)))
    note = note_phdr(head_size, notes_size, note_align)
    head = pack_headers(elfcorehdr.header, note, loads, size=head_size, p_offset=p_offset)
    # a view of the file's own bytes, which are as long
    phdrs = parse_phdrs(elfcorehdr.header, head[elfcorehdr.header.ehdr_size :], phnum)

    own = p_offset[1:]
    shown = pages > 0 if not pages.all() else slice(None)
    return VmcoreLayout(
        header=elfcorehdr.header,
        phdrs=phdrs,
        head=head,
        notes=make_ranges([(head_size, head_size + notes_size)]),
        windows=Windows(start[shown], pages[shown], to[shown]),
        moved=(loads["p_offset"] != loads["p_paddr"])[shown],
        loads=normalise(np.stack((own, own + loads["p_memsz"].astype(np.int64)), axis=1)),
        size=size,
        page_size=page_size,
    )
