"""A dump in a flattened stream as the image."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tests.builders.dead_machines import stamped
from tests.builders.elf_dumps import pack_dump, save_dump
from tests.builders.kdumps import KEPT, PAGE, RAM, Kdump, flatten, stamped_page
from tests.conftest import Opener
from tests.matching import same_bytes
from tests.steps import count_steps
from vmcorefs import (
    FormatError,
    SourceIOError,
    TruncatedError,
)
from vmcorefs.core.space.extents import Kind
from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.dumps.flattened import Unflattened
from vmcorefs.sources.file import FileSource


def shuffled(data: bytes, size: int = 5000) -> list[tuple[int, bytes]]:
    pieces = [(at, data[at : at + size]) for at in range(0, len(data), size)]
    random.Random(1).shuffle(pieces)  # noqa: S311  # the same order in every run
    return pieces


@pytest.mark.parametrize("data", [Kdump(KEPT, RAM).pack(), pack_dump()], ids=["kdump", "elf"])
def test_a_flattened_dump_in_any_order(tmp_path: Path, open_capture: Opener, data: bytes) -> None:
    plain = open_capture(save_dump(tmp_path, data))
    # the header is written first, and again at the end
    stream = flatten([(0, b"\xff" * 7000), *shuffled(data)])
    flat = open_capture(save_dump(tmp_path, stream, "flat"))
    for file in ("vmcore", "oldmem", "crash_notes", "vmcoreinfo"):
        table = plain[file].reader.table
        assert plain[file].size == flat[file].size
        for start, end in table.only(Kind.DATA, Kind.ZERO, Kind.HOLE).ranges.tolist():
            same_bytes(flat[file].pread(end - start, start), plain[file].pread(end - start, start))


def test_of_records_that_overlap_the_later_one_counts_byte_for_byte(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311  # the same records in every run
    expected = bytearray(600)
    pieces = []
    for number in range(300):
        at, size = chance.randrange(500), chance.randrange(1, 100)
        pieces.append((at, bytes([number % 251 + 1]) * size))
        expected[at : at + size] = pieces[-1][1]
    flat = unflattened(tmp_path, pieces)
    try:
        found = bytearray(flat.size)
        flat.pread_into(0, memoryview(found))
    finally:
        flat.close()
    assert found == expected[: flat.size]
    assert not any(expected[flat.size :])


@pytest.mark.parametrize("step", [0, 1, 40])
def test_four_times_the_records_that_overlap_take_four_times_the_steps(
    tmp_path: Path, step: int
) -> None:
    def steps(count: int) -> int:
        pieces = [(number * step, b"x" * 100) for number in range(count)]
        return count_steps(lambda: unflattened(tmp_path, pieces).close())

    assert steps(800) < 6 * steps(200)


def unflattened(directory: Path, pieces: list[tuple[int, bytes]]) -> Unflattened:
    path = directory / "stream"
    path.write_bytes(flatten(pieces))
    return Unflattened(FileSource(str(path), role="image"))


def test_what_no_record_has_is_zeros_unless_the_stream_was_cut(
    tmp_path: Path, open_capture: Opener
) -> None:
    data = Kdump(KEPT, RAM, zeros=[7], codec="none").pack()
    pieces = [(at, data[at : at + 512]) for at in range(0, len(data), 512)]
    kept = [(at, piece) for at, piece in pieces if any(piece)]
    assert len(kept) < len(pieces)
    flat = open_capture(save_dump(tmp_path, flatten(kept)))
    same_bytes(flat["oldmem"].pread(PAGE, 7 * PAGE), bytes(PAGE))
    cut = open_capture(save_dump(tmp_path, flatten(kept, ends=False), "cut"))
    same_bytes(cut["oldmem"].pread(PAGE, 8 * PAGE), stamped_page(8))
    with pytest.raises(SourceIOError, match="the stream was cut before that"):
        cut["oldmem"].pread(PAGE, 7 * PAGE)


def test_a_flattened_dump_that_was_cut(tmp_path: Path, open_capture: Opener) -> None:
    data = Kdump(range(1, 400), codec="none").pack()
    whole = flatten([(at, data[at : at + 3000]) for at in range(0, len(data), 3000)])
    path = save_dump(tmp_path, whole[:-500_000])
    with pytest.raises(TruncatedError, match="are lost, first"):
        open_capture(path)
    capture = open_capture(path, truncated=True)
    ((first, end),) = (capture.image.missing // PAGE).tolist()
    assert (end, 200 < first < 399) == (400, True)
    same_bytes(capture["oldmem"].pread((first - 1) * PAGE, PAGE), stamped(PAGE, first * PAGE))


@pytest.mark.parametrize(
    ("stream", "error", "says"),
    [
        (
            flatten([(0, b"neither a dump nor memory")]),
            UnsupportedError,
            "of an unknown dump format",
        ),
        (flatten([(0, flatten([]))]), UnsupportedError, "of an unknown dump format"),
        (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 2, 1) + bytes(4064), FormatError, "type 2"),
        (flatten([])[:-16] + struct.pack(">qq", -5, 10), FormatError, "of 10 bytes at offset -0x5"),
        (flatten([])[:-16] + struct.pack(">qq", 1 << 62, 10), FormatError, "of 10 bytes at"),
        (flatten([])[:-16] + struct.pack(">qq", 5, -10), FormatError, "of -10 bytes"),
        (flatten([(0, b"xx"), (1, b"yy")] * 3000), FormatError, "6000 records overlap"),
        (b"makedumpfile\0\0\0\0", FormatError, "not a flattened dump"),
    ],
)
def test_streams_that_are_no_dump(
    tmp_path: Path, open_capture: Opener, stream: bytes, error: type[Exception], says: str
) -> None:
    path = save_dump(tmp_path, stream)
    with pytest.raises(error) as caught:
        open_capture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
