"""Inputs that are nearly right, and what is written is read back; for any bytes see tests/fuzz."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tests.builders import dead_machines
from vmcorefs.config import load_capture_file
from vmcorefs.core.elf.notes import ByteOrder, pack_note, walk_notes
from vmcorefs.errors import VmcorefsError


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toml") / "capture.toml"


KEYS = st.sampled_from(
    [
        "image",
        "map",
        "backup",
        "crash_kernel",
        "elfcorehdr",
        "machine",
        "holes",
        "raw_reserved",
        "truncated",
        "other",
    ]
)
VALUES = st.sampled_from(
    ["1", "-1", "1e9", "true", '"auto"', '"4G"', "[]", '["0+4G"]', "{}", "1979-05-27", '{path="a"}']
)


@given(
    entries=st.lists(st.tuples(KEYS, VALUES), max_size=5, unique_by=lambda entry: entry[0]),
    image=st.sampled_from(["", '[[image]]\npath = "ram"\n', "[[image]]\npaddr = 1\n"]),
)
def test_capture_descriptions_with_the_right_keys_and_any_values(
    toml: Path, entries: list[tuple[str, str]], image: str
) -> None:
    toml.write_text("".join(f"{key} = {value}\n" for key, value in entries) + image)
    with contextlib.suppress(VmcorefsError):
        load_capture_file(str(toml))


NAMES = st.binary(max_size=20).map(lambda name: name.replace(b"\0", b""))
NOTES = st.lists(st.tuples(NAMES, st.integers(0, 2**32 - 1), st.binary(max_size=50)), max_size=5)


@given(notes=NOTES, big=st.booleans(), behind=st.sampled_from([b"", bytes(12), bytes(100)]))
def test_notes_that_are_packed_are_found_again(
    notes: list[tuple[bytes, int, bytes]], big: bool, behind: bytes
) -> None:
    order: ByteOrder = ">" if big else "<"
    packed = b"".join(pack_note(*note, order) for note in notes)
    assert packed == b"".join(dead_machines.pack_note(*note, order) for note in notes)
    walk = walk_notes(packed + behind, order)
    assert [(note.name, note.note_type, note.desc) for note in walk.notes] == notes
    assert (walk.size, walk.torn) == (len(packed), "")
