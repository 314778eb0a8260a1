"""ELF dumps, built with ``struct`` alone: headers, notes, and memory that says where it is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.builders.dead_machines import (
    DIRECT_MAP,
    KERNEL_TEXT,
    PT_LOAD,
    PT_NOTE,
    TEXT_VADDR,
    X86_64,
    Flavour,
    Phdr,
    pack_elf,
    prstatus_note,
    stamped,
    vmcoreinfo_note,
    vmcoreinfo_text,
)

PAGE = 4096

NOTES = (
    prstatus_note(100, 0x1000, 0x2000)
    + prstatus_note(102, 0x1002, 0x2002)
    + vmcoreinfo_note(vmcoreinfo_text())
)


@dataclass(frozen=True)
class Load:
    """A PT_LOAD that is to be.

    Attributes:
        start: Its physical address.
        end: One past its last.
        vaddr: Where it was mapped.
        held: Bytes of it that the file has; None for all.
        offset: Where they are, if another PT_LOAD has put them there.
        paddr: What it says of its physical address, if not ``start``.
    """

    start: int
    end: int
    vaddr: int = 0
    held: int | None = None
    offset: int | None = None
    paddr: int | None = None

    @property
    def stored(self) -> int:
        return self.end - self.start if self.held is None else self.held


def direct(start: int, end: int, held: int | None = None) -> Load:
    """RAM in the direct map."""
    return Load(start, end, DIRECT_MAP + start, held)


TEXT = Load(*KERNEL_TEXT, TEXT_VADDR)
LOADS = (TEXT, direct(0x1000, 0x9FC00), direct(0x100000, 0x200000), direct(0x2C0000, 0x300000))
"""As kexec-tools has them: the kernel's image, and the RAM that it is in."""


def pack_dump(
    loads: Sequence[Load] = LOADS,
    notes: bytes | Sequence[bytes] = NOTES,
    flavour: Flavour = X86_64,
    **fields: int,
) -> bytes:
    """A dump: headers, notes, then what the PT_LOADs hold, each from a page on.

    Several ``notes`` have a PT_NOTE each, one right behind the other.
    """
    segments = [notes] if isinstance(notes, bytes) else notes
    notes = b"".join(segments)
    count = len(segments) + len(loads)
    head = (64 + 56 * count) if flavour.bits == 64 else (52 + 32 * count)
    at_notes = -(-head // PAGE) * PAGE
    end = at_notes + -(-len(notes) // PAGE) * PAGE
    phdrs, at = [], at_notes
    for segment in segments:
        phdrs.append(Phdr(PT_NOTE, at, len(segment), p_paddr=0, p_flags=0))
        at += len(segment)
    pieces = {at_notes: notes}
    for load in loads:
        offset = load.offset
        if offset is None:
            offset = end + load.start % PAGE
            pieces[offset] = stamped(load.start, load.start + load.stored)
            end += -(-(load.start % PAGE + load.stored) // PAGE) * PAGE
        paddr = load.start if load.paddr is None else load.paddr
        size = load.end - load.start
        phdrs.append(
            Phdr(PT_LOAD, offset, size, p_paddr=paddr, p_vaddr=load.vaddr, p_filesz=load.stored)
        )
    dump = bytearray(end)
    dump[:head] = pack_elf(phdrs, flavour, **fields)
    for offset, data in pieces.items():
        dump[offset : offset + len(data)] = data
    return bytes(dump)


def save_dump(directory: Path, dump: bytes, name: str = "dump") -> Path:
    path = directory / name
    path.write_bytes(dump)
    return path
