"""The note by which a triage dump says what it is."""

from __future__ import annotations

import pytest

from vmcorefs.core.elf.notes import ByteOrder, walk_notes
from vmcorefs.core.elf.triage import find_triage, pack_triage


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_what_is_packed_is_found(byte_order: ByteOrder) -> None:
    packed = pack_triage({"stacks": 61, "page tables": 95}, byte_order)

    (note,) = walk_notes(packed, byte_order).notes
    assert note.name == b"VMCOREFS"
    assert note.desc == b"stacks=61\npage tables=95\n"
    assert find_triage([note]) == {"stacks": 61, "page tables": 95}


def test_other_notes_are_none() -> None:
    assert find_triage([]) is None


def test_the_last_one_counts_and_only_its_sane_lines() -> None:
    first = pack_triage({"log": 1}, "<")
    hostile = pack_triage({"log": 2, "\x1b[2J": 3}, "<")

    assert find_triage(walk_notes(first + hostile, "<").notes) == {"log": 2}
