"""Whatever it is given, a parser returns or says what is wrong; it never fails in another way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tests import builders, map_builders
from tests.reference import trim_notes
from vmcorefs.config import load_capture_file, parse_machine, parse_piece
from vmcorefs.core.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.map_text import parse_memory_map
from vmcorefs.core.memory_map import format_iomem
from vmcorefs.core.notes import ByteOrder, pack_note, walk_notes
from vmcorefs.core.units import parse_range, parse_size
from vmcorefs.core.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.errors import VmcorefsError

ROWS = [(0x1000, 0x9FC00, "System RAM"), (0x100000, 0x300000, "System RAM")]
CRASH = [(0x200000, 0x300000)]
VALID = [
    map_builders.iomem_text(ROWS, CRASH).encode(),
    map_builders.memmap_rows(ROWS).encode(),
    map_builders.memmap_grep(ROWS).encode(),
    map_builders.e820_text(ROWS, crash_kernel=CRASH).encode()
    + b"e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n",
    map_builders.e820_text(ROWS, "old", crash_kernel=CRASH).encode(),
    map_builders.e820_text(ROWS, "new", crash_kernel=CRASH).encode(),
    builders.pack_elf(builders.kexec_tools_phdrs()),
    builders.pack_elf(builders.cpu_note_phdrs(2), builders.Flavour(32, ">")),
    builders.vmcoreinfo_text(),
    builders.prstatus_note(1, 2, 3) + builders.vmcoreinfo_note(b"A=1\n"),
    b'map = "iomem"\nelfcorehdr = "auto"\n[[image]]\npath = "ram"\npaddr = "4G"\nsize = 4096\n',
]
INTERESTING = [b"\x00", b"\xff" * 8, b"-", b"9" * 20, b"9" * 5000, b"\n", b"0x", b"=", b"@", b"["]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid input with a few bytes replaced, inserted or cut out."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 1, 4, 8, 40]))
        data[at : at + length] = draw(st.sampled_from(INTERESTING) | st.binary(max_size=8))
    return bytes(data)


ANYTHING = st.binary(max_size=200) | mutated()


def _walk(data: bytes) -> None:
    for order in ("<", ">"):
        walk_notes(data, "<" if order == "<" else ">")


def _vmcoreinfo(data: bytes) -> None:
    info = parse_vmcoreinfo(data)
    assert info.page_size >= 4096
    assert info.crash_time is None or info.crash_time > 0
    assert info.release_version is None or info.release is not None


def _map(data: bytes) -> None:
    memory_map = parse_memory_map(data)
    assert memory_map.end == memory_map.ram[-1, 1]
    assert format_iomem(memory_map)


@pytest.mark.parametrize("parse", [_map, _walk, _vmcoreinfo, parse_elfcorehdr])
@given(data=ANYTHING)
def test_binary_inputs(parse: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(VmcorefsError):
        parse(data)


WORDS = st.sampled_from(["0x1000", "-", "+", "@", ":", "640K", "4G", "9" * 5000, "ram", "K", " "])
TEXT = st.text(max_size=30) | st.lists(WORDS, max_size=6).map("".join)


@pytest.mark.parametrize("parse", [parse_size, parse_range, parse_piece, parse_machine])
@given(text=TEXT)
def test_what_is_typed_on_the_command_line(parse: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(VmcorefsError):
        parse(text)


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toml") / "capture.toml"


@given(data=ANYTHING)
def test_capture_descriptions(toml: Path, data: bytes) -> None:
    toml.write_bytes(data)
    with contextlib.suppress(VmcorefsError):
        load_capture_file(str(toml))


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
    assert packed == b"".join(builders.pack_note(*note, order) for note in notes)
    walk = walk_notes(packed + behind, order)
    assert [(note.name, note.note_type, note.desc) for note in walk.notes] == notes
    assert (walk.size, walk.torn) == (len(packed), "")


@given(data=ANYTHING, big=st.booleans())
def test_a_slot_is_trimmed_where_the_reference_writer_trims_it(data: bytes, big: bool) -> None:
    order: ByteOrder = ">" if big else "<"
    assert walk_notes(data, order).size == len(trim_notes(data, order))
