"""Where everything goes in a kdump-compressed file, and its headers.

They are filled in as makedumpfile does (makedumpfile.c, ``write_kdump_header``).
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from vmcorefs.core.elf.notes import walk_notes
from vmcorefs.core.formats.c_struct import Abi
from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, Flag, Places, bitmap_blocks, places
from vmcorefs.core.formats.kdump.headers import (
    U32_MAX,
    MainHeader,
    SubHeader,
    Utsname,
    pack_main_header,
    pack_sub_header,
    sub_header_size,
)
from vmcorefs.core.space.ranges import Ranges


class KernelFacts(msgspec.Struct, frozen=True):
    """What the headers tell of the crashed kernel beside its memory.

    Attributes:
        abi: How its machine lays out structures.
        utsname: Its names.
        phys_base: In the sense that its machine gives to it.
        time: When it crashed, or else the dump was written; seconds since 1970.
        microseconds: Of that time.
        current_cpu: The CPU that crashed, as far as a header says so.
        cpus: How many there were at least.
        excluded: The dump level at which pages are lacking already.
    """

    abi: Abi
    utsname: Utsname
    phys_base: int
    time: int
    microseconds: int = 0
    current_cpu: int = 0
    cpus: int = 1
    excluded: int = 0


class Part(msgspec.Struct, frozen=True):
    """One file of a dump: all of it, or the pages of a range.

    Attributes:
        main: The main header.
        sub: The sub header.
        notes: The notes behind it.
        where: Where the bitmaps and descriptors are.
        first: The first page frame number that may have a page here.
        end: The first that has not.
        pages: Pages that are stored here.
    """

    main: MainHeader
    sub: SubHeader
    notes: bytes
    where: Places
    first: int
    end: int
    pages: int

    @property
    def data(self) -> int:
        """Where the descriptors end, in bytes: the pages may begin there."""
        return self.where.descriptors + DESC_SIZE * self.pages

    def front(self, *, incomplete: bool) -> bytes:
        """Everything in front of the bitmaps: the headers and the notes, whole blocks."""
        status = self.main.status | (Flag.INCOMPLETE if incomplete else 0)
        main = pack_main_header(replace(self.main, status=status))
        head = main.ljust(self.main.block_size, b"\0")
        return (head + pack_sub_header(self.sub, self.main.abi) + self.notes).ljust(
            self.where.ram, b"\0"
        )


def plan_file(
    facts: KernelFacts,
    notes: bytes,
    *,
    page_size: int,
    ram: Ranges,
    pages: int,
    level: int,
    codec: int = 0,
) -> Part:
    """Plan a file that holds a whole dump.

    Args:
        facts: Of the crashed kernel.
        notes: The vmcore's whole PT_NOTE; it stands behind the sub header.
        page_size: Bytes in a page, and in a block of the file.
        ram: Page frame numbers of the pages that are RAM, a normal set.
        pages: How many pages are stored.
        level: The dump level.
        codec: The ``Flag`` of how they may be compressed.
    """
    abi = facts.abi
    max_mapnr = int(ram[-1, 1]) if len(ram) else 0
    offset_note = page_size + sub_header_size(abi)
    walk = walk_notes(notes, abi.byte_order)
    sub = SubHeader(
        phys_base=facts.phys_base % (1 << abi.bits),
        dump_level=level | facts.excluded,
        offset_note=offset_note if notes else 0,
        size_note=len(notes),
        max_mapnr_64=max_mapnr,
    )
    for note in walk.notes:
        at, size = offset_note + note.desc_offset, len(note.desc)
        if note.is_vmcoreinfo:
            sub = replace(sub, offset_vmcoreinfo=at, size_vmcoreinfo=size)
        elif note.is_eraseinfo:
            sub = replace(sub, offset_eraseinfo=at, size_eraseinfo=size)
    cpus = sum(note.is_prstatus for note in walk.notes)
    main = MainHeader(
        abi=abi,
        utsname=facts.utsname,
        tv_sec=facts.time,
        tv_usec=facts.microseconds,
        status=codec,
        block_size=page_size,
        sub_hdr_size=-(-(offset_note - page_size + len(notes)) // page_size),
        bitmap_blocks=bitmap_blocks(max_mapnr, page_size),
        max_mapnr=min(max_mapnr, U32_MAX),
        current_cpu=facts.current_cpu,
        nr_cpus=max(cpus, facts.cpus),
    )
    return Part(main, sub, notes, places(main, max_mapnr), 0, max_mapnr, pages)
