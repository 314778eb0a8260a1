"""A dump by LKCD as an image: of each version, byte order and way of compression."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tests.builders.dead_machines import HIGH
from tests.builders.encodings import machine
from tests.builders.lkcd import header, pack_lkcd, pack_rle
from tests.conftest import Opener
from tests.matching import same_bytes
from vmcorefs import FormatError, SourceIOError, UnsupportedError
from vmcorefs.core.formats.lkcd import decompress_rle

PAGE = 4096
RAM = bytes(machine().memory)
PAGES = [(at, RAM[at : at + PAGE]) for at in range(HIGH[0], HIGH[1], PAGE)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("version", "compression", "bits"),
    [
        (1, 1, 32),
        (1, 1, 64),
        (2, 1, 64),
        (5, 2, 32),
        (7, 0, 64),
        (8, 1, 64),
        (9, 2, 64),
        (10, 1, 64),
    ],
)
def test_each_version_is_read(
    tmp_path: Path, open_capture: Opener, order: str, version: int, compression: int, bits: int
) -> None:
    path = tmp_path / "dump"
    path.write_bytes(pack_lkcd(PAGES[::-1], version, compression, order, bits=bits))
    oldmem = open_capture(path)["oldmem"]
    same_bytes(oldmem.pread(HIGH[1] - HIGH[0], HIGH[0]), RAM[HIGH[0] : HIGH[1]])


@given(st.binary(max_size=600) | st.lists(st.sampled_from([b"\0", b"a" * 300])).map(b"".join))
def test_a_run_length_code_is_undone(data: bytes) -> None:
    packed = pack_rle(data)
    assert decompress_rle(packed, len(data)) == data
    if data:
        with pytest.raises(ValueError, match="larger"):
            decompress_rle(packed, len(data) - 1)


@pytest.mark.parametrize("data", [b"a\0", b"a\0\x05"])
def test_a_code_that_ends_within_a_run_is_damaged(data: bytes) -> None:
    with pytest.raises(ValueError, match="ends within a run"):
        decompress_rle(data, 99)


def test_a_page_that_is_damaged_is_an_error(tmp_path: Path, open_capture: Opener) -> None:
    path = tmp_path / "dump"
    data = bytearray(pack_lkcd(PAGES))
    data[(1 << 16) + 20] ^= 0xFF
    path.write_bytes(bytes(data))
    oldmem = open_capture(path)["oldmem"]
    with pytest.raises(SourceIOError):
        oldmem.pread(1, HIGH[0])
    same_bytes(oldmem.pread(PAGE, HIGH[0] + PAGE), PAGES[1][1])


def test_of_a_page_that_is_there_twice_the_first_counts(
    tmp_path: Path, open_capture: Opener
) -> None:
    path = tmp_path / "dump"
    path.write_bytes(pack_lkcd([*PAGES, (HIGH[0], b"x" * PAGE)]))
    same_bytes(open_capture(path)["oldmem"].pread(PAGE, HIGH[0]), PAGES[0][1])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (header(4) + bytes(99), UnsupportedError, "a dump by LKCD, but of version 4"),
        (header(9, 7) + bytes(99), UnsupportedError, "compressed in the way 7"),
        (header(9, page_size=77), FormatError, "pages of 77 bytes"),
        (header(9)[:500], FormatError, "cut within its header"),
        (header(9), FormatError, "it ends at 0x10000, before its end mark"),
        (header(9).replace(b"Linux", b"Minix"), FormatError, "does not name a Linux"),
        (pack_lkcd([]), FormatError, "no page is in it"),
    ],
)
def test_what_cannot_be_read_says_why(
    tmp_path: Path, open_capture: Opener, data: bytes, error: type[Exception], message: str
) -> None:
    path = tmp_path / "dump"
    path.write_bytes(data.ljust(PAGE, b"\0") if len(data) > 600 else data)
    with pytest.raises(error, match=message):
        open_capture(path)
