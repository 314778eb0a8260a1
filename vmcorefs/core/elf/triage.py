"""The note by which a triage dump says what it is.

It is in the dump's notes, where every format has them, and tools pass over those that they do not
know. Its text has a line ``WHAT=PAGES`` for each thing that the dump holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from vmcorefs.core.elf.notes import ByteOrder, Note, pack_note

_NAME: Final = b"VMCOREFS"
_TYPE: Final = 0x54524941
"""None of those that other owners have: crash asks for the type alone."""
_LINE: Final = re.compile(rb"([a-z ]{1,32})=([0-9]{1,18})")
_MAX_LINES: Final = 64


def pack_triage(contents: Mapping[str, int], byte_order: ByteOrder) -> bytes:
    """Encode the note: how many pages there are for each thing."""
    text = "".join(f"{what}={count}\n" for what, count in contents.items())
    return pack_note(_NAME, _TYPE, text.encode("ascii"), byte_order)


def find_triage(notes: Iterable[Note]) -> dict[str, int] | None:
    """How many pages a triage dump has for each thing; None if it is no such dump."""
    ours = [note for note in notes if (note.name, note.note_type) == (_NAME, _TYPE)]
    if not ours:
        return None
    # the last one: a triage dump of a triage dump has less
    lines = map(_LINE.fullmatch, ours[-1].desc.split(b"\n")[:_MAX_LINES])
    return {line[1].decode("ascii"): int(line[2]) for line in lines if line is not None}
