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

from vmcorefs.core.elf.notes import NT_VMCOREINFO
from vmcorefs.core.elf.vmcoreinfo import NOTE_NAME, Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.space.units import align_up
from vmcorefs.discovery.search.scan import Place
from vmcorefs.errors import FaultError
from vmcorefs.sources.base import Source

MAX_TEXT = 1 << 16
"""Longest text accepted: a page, which is at most 64 KiB."""

MAX_TEXTS = 8 << 20
"""Most bytes of distinct texts to keep; a kernel's has 3 KiB."""

_HEADER = struct.Struct("<III")
_NAME_SIZE = len(NOTE_NAME) + 1
_DESC = _HEADER.size + align_up(_NAME_SIZE, 4)
# whole lines, without zeros after them: n_descsz is vmcoreinfo_size (kernel/vmcore_info.c)
_TEXT = re.compile(rb"OSRELEASE=[\x20-\x7e]+\n(?:[\x20-\x7e\n]*\n)?")


class Candidate(msgspec.Struct, frozen=True):
    """One VMCOREINFO.

    Attributes:
        vmcoreinfo: Its text.
        place: Where its note is; None if the text was given.
        copies: Other places with the same note.
    """

    vmcoreinfo: Vmcoreinfo
    place: Place | None
    copies: tuple[Place, ...] = ()

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
    found: dict[bytes, list[Place]] = {}
    left = MAX_TEXTS
    for place in places:
        text = read_note(partial(_read, sources[place.source]), place.offset)
        if text in found:
            found[text].append(place)
        elif text is not None and len(text) <= left:
            left -= len(text)
            found[text] = [place]
    return tuple(_iter_candidates(found))


def _iter_candidates(found: dict[bytes, list[Place]]) -> Iterator[Candidate]:
    for text, (first, *others) in found.items():
        yield Candidate(parse_vmcoreinfo(text), first, tuple(others))


def read_note(read: Callable[[int, int], bytes | None], offset: int) -> bytes | None:
    """The text of the VMCOREINFO note at ``offset``, or None if there is none.

    Args:
        read: ``read(offset, size)``: bytes, or None if there are fewer.
        offset: In the address space of ``read``.
    """
    head = read(offset, _DESC)
    if head is None:
        return None
    namesz, descsz, kind = _HEADER.unpack_from(head)
    name = head[_HEADER.size :].rstrip(b"\0")
    if (namesz, kind, name) != (_NAME_SIZE, NT_VMCOREINFO, NOTE_NAME) or descsz > MAX_TEXT:
        return None
    text = read(offset + _DESC, descsz)
    if text is None or not _TEXT.fullmatch(text):
        return None
    return text if parse_vmcoreinfo(text).release else None  # the last OSRELEASE counts


def _read(source: Source, offset: int, size: int) -> bytes | None:
    if offset + size > source.size:
        return None
    buffer = bytearray(size)
    try:
        source.pread_into(offset, memoryview(buffer))
    except FaultError:
        return None
    return bytes(buffer)
