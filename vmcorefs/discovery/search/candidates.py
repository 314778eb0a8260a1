"""VMCOREINFO notes in memory, among them the crashed kernel's.

There may be several: the crashed kernel's, that of the capture kernel that ran afterwards, an
earlier kernel's, copies in the page cache. A note is at the start of a page, the kernel's own is
where its ``vmcoreinfo_note`` points, and a kernel that crashed has added CRASHTIME to it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from vmcorefs.core.elf.notes import NT_VMCOREINFO, ByteOrder
from vmcorefs.core.elf.vmcoreinfo import NOTE_NAME, Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.space.units import align_up
from vmcorefs.discovery.search.scan import Place
from vmcorefs.errors import FaultError
from vmcorefs.sources.base import Source

MAX_TEXT = 1 << 16
"""Longest text accepted: a page, which is at most 64 KiB."""

MAX_TEXTS = 8 << 20
"""Most bytes of distinct texts to keep; a kernel's has 3 KiB."""

_HEADER_SIZE = 12
_NAME_SIZE = len(NOTE_NAME) + 1
_DESC = _HEADER_SIZE + align_up(_NAME_SIZE, 4)
# whole lines, without zeros after them: n_descsz is vmcoreinfo_size (kernel/vmcore_info.c)
_TEXT = re.compile(rb"OSRELEASE=[\x20-\x7e]+\n(?:[\x20-\x7e\n]*\n)?")


class Candidate(msgspec.Struct, frozen=True):
    """One VMCOREINFO.

    Attributes:
        vmcoreinfo: Its text.
        place: Where its note is; None if the text was given.
        copies: Other places with the same note.
        byte_order: Of the note, and so of the kernel; None if the text was given.
    """

    vmcoreinfo: Vmcoreinfo
    place: Place | None
    copies: tuple[Place, ...] = ()
    byte_order: ByteOrder | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """All places of the note."""
        return (self.place, *self.copies) if self.place is not None else ()

    @property
    def note_size(self) -> int:
        """Bytes of the note, header and padding included."""
        return _DESC + align_up(len(self.vmcoreinfo.text), 4)


def read_candidates(sources: Sequence[Source], places: Sequence[Place]) -> tuple[Candidate, ...]:
    """Read the notes at ``places``; anything else there is skipped.

    Args:
        sources: The inputs.
        places: Where ``scan`` found the beginning of one.

    Returns:
        A candidate for each distinct text, in the order in which they were found, up to
        ``MAX_TEXTS``.

    Raises:
        SourceIOError: if an input cannot be read.
    """
    found: dict[tuple[bytes, ByteOrder], list[Place]] = {}
    left = MAX_TEXTS
    for place in places:
        note = read_note(partial(_read, sources[place.source]), place.offset)
        if note in found:
            found[note].append(place)
        elif note is not None and len(note[0]) <= left:
            left -= len(note[0])
            found[note] = [place]
    return tuple(_iter_candidates(found))


def _iter_candidates(found: dict[tuple[bytes, ByteOrder], list[Place]]) -> Iterator[Candidate]:
    for (text, byte_order), (first, *others) in found.items():
        yield Candidate(parse_vmcoreinfo(text), first, tuple(others), byte_order)


def read_note(
    read: Callable[[int, int], bytes | None], offset: int
) -> tuple[bytes, ByteOrder] | None:
    """The text of the VMCOREINFO note at ``offset`` and its byte order, or None if there is none.

    Args:
        read: ``read(offset, size)``: bytes, or None if there are fewer.
        offset: In the address space of ``read``.
    """
    head = read(offset, _DESC)
    if head is None:
        return None
    byte_order: ByteOrder = ">" if head[:1] == b"\0" else "<"  # n_namesz is small
    namesz, descsz, kind = struct.unpack_from(f"{byte_order}III", head)
    name = head[_HEADER_SIZE:].rstrip(b"\0")
    if (namesz, kind, name) != (_NAME_SIZE, NT_VMCOREINFO, NOTE_NAME) or descsz > MAX_TEXT:
        return None
    text = read(offset + _DESC, descsz)
    if text is None or not _TEXT.fullmatch(text):
        return None
    # the last OSRELEASE counts
    return (text, byte_order) if parse_vmcoreinfo(text).release else None


def _read(source: Source, offset: int, size: int) -> bytes | None:
    if offset + size > source.size:
        return None
    buffer = bytearray(size)
    try:
        source.pread_into(offset, memoryview(buffer))
    except FaultError:
        return None
    return bytes(buffer)
