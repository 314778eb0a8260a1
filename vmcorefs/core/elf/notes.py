"""ELF notes: walked as the kernel does, and packed.

Names and descriptors are padded to 4 bytes in ELF64 too, against the gABI text; that is what
the kernel writes (kernel/vmcore_info.c, ``append_elf_note``) and walks (fs/proc/vmcore.c,
``update_note_header_size_elf64``). The walk is our own because pyelftools does not stop at a zero
``n_namesz`` as the kernel does.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from vmcorefs.core.space.units import align_up

ByteOrder = Literal["<", ">"]

NT_PRSTATUS = 1
NT_GNU_BUILD_ID = 3
NT_VMCOREINFO = 0
"""VMCOREINFO notes have type 0 (include/linux/vmcore_info.h)."""

ERASEINFO = b"ERASEINFO"
NT_ERASEINFO = 0

_HEADER_SIZE = 12


class Note(msgspec.Struct, frozen=True):
    """One ELF note. Each owner numbers its own types, so only both together say what it is.

    Attributes:
        name: Owner without its NUL, such as ``b"CORE"`` or ``b"VMCOREINFO"``.
        note_type: ``n_type``.
        desc: The descriptor, unpadded.
        offset: Where its header starts, in bytes from the start of the buffer that was walked.
    """

    name: bytes
    note_type: int
    desc: bytes
    offset: int

    @property
    def is_prstatus(self) -> bool:
        """Whether it holds a CPU's registers."""
        return self.name == b"CORE" and self.note_type == NT_PRSTATUS

    @property
    def is_vmcoreinfo(self) -> bool:
        """Whether it is VMCOREINFO."""
        return self.name == b"VMCOREINFO" and self.note_type == NT_VMCOREINFO

    @property
    def is_eraseinfo(self) -> bool:
        """Whether it is what makedumpfile erased (elf_info.h, ERASEINFO_NOTE_NAME)."""
        return self.name == ERASEINFO and self.note_type == NT_ERASEINFO

    @property
    def desc_offset(self) -> int:
        """Where its descriptor starts, in bytes from the start of the buffer that was walked."""
        return self.offset + _HEADER_SIZE + align_up(len(self.name) + 1, 4)

    @property
    def is_build_id(self) -> bool:
        """Whether it is the build id of the file that it is in."""
        return self.name == b"GNU" and self.note_type == NT_GNU_BUILD_ID


class NoteWalk(msgspec.Struct, frozen=True):
    """What a walk over one note buffer found.

    Attributes:
        notes: The whole notes, in order.
        size: Bytes from the start up to the end of the last whole note, padding included as far as
            it is there.
        torn: Why the walk stopped early, if a note would end past the buffer; empty otherwise.
    """

    notes: tuple[Note, ...]
    size: int
    torn: str


def walk_notes(buffer: bytes, byte_order: ByteOrder, *, padded: bool = False) -> NoteWalk:
    """Walk the notes of one buffer, up to a zero ``n_namesz`` or its end.

    The kernel does the same for each PT_NOTE of an elfcorehdr, and keeps the notes before one that
    would end past ``p_memsz`` (fs/proc/vmcore.c, ``update_note_header_size_elf64``). What reads
    dumps does not ask for the padding of the last note: nothing follows it.

    Args:
        buffer: The notes.
        byte_order: ``<`` or ``>``.
        padded: Whether the last note needs its padding too, as for the kernel.
    """
    notes: list[Note] = []
    offset = 0
    torn = ""
    while offset + _HEADER_SIZE <= len(buffer):
        namesz, descsz, note_type = struct.unpack_from(f"{byte_order}III", buffer, offset)
        if namesz == 0:
            break
        desc_offset = offset + _HEADER_SIZE + align_up(namesz, 4)
        end = desc_offset + align_up(descsz, 4)
        if not padded and desc_offset + descsz <= len(buffer):
            end = min(end, len(buffer))
        if end > len(buffer):
            torn = (
                f"note {len(notes)} at offset {offset:#x}: n_namesz {namesz} and n_descsz {descsz}"
                f" end at {end:#x}, but the buffer has {len(buffer)} bytes"
            )
            break
        name = buffer[offset + _HEADER_SIZE : offset + _HEADER_SIZE + namesz].rstrip(b"\0")
        notes.append(Note(name, note_type, buffer[desc_offset : desc_offset + descsz], offset))
        offset = end
    return NoteWalk(tuple(notes), offset, torn)


def pack_note(name: bytes, note_type: int, desc: bytes, byte_order: ByteOrder = "<") -> bytes:
    """Encode one note.

    Args:
        name: Owner without the NUL.
        note_type: ``n_type``.
        desc: Descriptor, any length.
        byte_order: ``<`` or ``>``.

    Returns:
        ``12 + align_up(len(name) + 1, 4) + align_up(len(desc), 4)`` bytes.

    Raises:
        ValueError: if ``name`` contains a NUL.
    """
    if b"\0" in name:
        raise ValueError(f"note name {name!r} contains a NUL")
    padded_name = (name + b"\0").ljust(align_up(len(name) + 1, 4), b"\0")
    padded_desc = desc.ljust(align_up(len(desc), 4), b"\0")
    return (
        struct.pack(f"{byte_order}III", len(name) + 1, len(desc), note_type)
        + padded_name
        + padded_desc
    )


def find_eraseinfo(notes: tuple[Note, ...]) -> bytes:
    """The text of all ERASEINFO notes; empty if there is none."""
    return b"".join(note.desc for note in notes if note.is_eraseinfo)


def find_vmcoreinfo(notes: tuple[Note, ...]) -> bytes | None:
    """The text of the last VMCOREINFO note: the tools use the last one too."""
    found = [note.desc for note in notes if note.is_vmcoreinfo]
    return found[-1] if found else None
