"""The headers of a kdump-compressed file, filled in as makedumpfile does.

makedumpfile.c, ``write_kdump_header``.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from vmcorefs.core.elf.elf import ELFCLASS32, EM_386
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.notes import NT_PRSTATUS, walk_notes
from vmcorefs.core.elf.vmcoreinfo import NOTE_NAME, Vmcoreinfo
from vmcorefs.core.formats.c_struct import Abi
from vmcorefs.core.formats.kdump.descriptors import bitmap_blocks
from vmcorefs.core.formats.kdump.headers import (
    U32_MAX,
    MainHeader,
    SubHeader,
    Utsname,
    pack_main_header,
    pack_sub_header,
    sub_header_size,
)
from vmcorefs.core.space.units import align_up


def make_headers(
    elfcorehdr: Elfcorehdr,
    notes: bytes,
    vmcoreinfo: Vmcoreinfo | None,
    *,
    utsname: Utsname,
    phys_base: int,
    block_size: int,
    max_mapnr: int,
) -> tuple[MainHeader, SubHeader]:
    """Fill in both headers of a complete file whose pages are all stored uncompressed.

    Args:
        elfcorehdr: The vmcore's headers.
        notes: The vmcore's whole PT_NOTE; it follows the sub header.
        vmcoreinfo: The VMCOREINFO in it, or None.
        utsname: The crashed kernel's names.
        phys_base: Of the crashed kernel, as its architecture defines it.
        block_size: Bytes in a page, and in a block of the file.
        max_mapnr: One more than the highest page frame number.
    """
    header = elfcorehdr.header
    is_32_bit = header.elf_class == ELFCLASS32
    abi = Abi(header.byte_order, 32 if is_32_bit else 64, header.e_machine == EM_386)
    offset_note = block_size + sub_header_size(abi)
    walk = walk_notes(notes, header.byte_order)
    sub = SubHeader(
        phys_base=phys_base % (1 << abi.bits),
        offset_note=offset_note if notes else 0,
        size_note=len(notes),
        max_mapnr_64=max_mapnr,
    )
    for note in walk.notes:
        if note.name == NOTE_NAME:
            desc = note.offset + 12 + align_up(len(NOTE_NAME) + 1, 4)
            sub = replace(sub, offset_vmcoreinfo=offset_note + desc, size_vmcoreinfo=len(note.desc))
    cpus = sum(note.name == b"CORE" and note.note_type == NT_PRSTATUS for note in walk.notes)
    crash_time = vmcoreinfo.crash_time if vmcoreinfo else None
    main = MainHeader(
        abi=abi,
        utsname=utsname,
        tv_sec=int(time.time()) if crash_time is None else crash_time,
        status=0,
        block_size=block_size,
        sub_hdr_size=-(-(offset_note - block_size + len(notes)) // block_size),
        bitmap_blocks=bitmap_blocks(max_mapnr, block_size),
        max_mapnr=min(max_mapnr, U32_MAX),
        nr_cpus=max(cpus, 1),
    )
    return main, sub


def pack_front(main: MainHeader, sub: SubHeader, notes: bytes) -> bytes:
    """Everything before the bitmaps: the headers and the notes, in whole blocks."""
    head = pack_main_header(main).ljust(main.block_size, b"\0")
    size = (1 + main.sub_hdr_size) * main.block_size
    return (head + pack_sub_header(sub, main.abi) + notes).ljust(size, b"\0")
