"""Kdump-compressed dumps that have lost something, or cannot be true."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import zstandard

from tests.builders.dead_machines import stamped
from tests.builders.elf_dumps import save_dump
from tests.builders.kdumps import KEPT, PAGE, RAM, Kdump, stamped_page
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import (
    ConfigError,
    FaultError,
    FormatError,
    SourceIOError,
    TruncatedError,
)
from vmcorefs.sources.dumps import diskdump, diskdump_part


@pytest.mark.parametrize("truncated", [False, True])
def test_lost_pages_of_an_incomplete_dump(
    tmp_path: Path, open_capture: Opener, *, truncated: bool
) -> None:
    path = save_dump(tmp_path, Kdump(KEPT, RAM, status=8, lost=[97, 98, 99, 599]).pack())
    if not truncated:
        with pytest.raises(
            TruncatedError,
            match=exactly(
                f"{path}: 16 KiB of memory that it should have are lost, first [0x61000, 0x64000);"
                " pass --truncated to serve the rest, and EIO for these"
            ),
        ):
            open_capture(path)
        return
    capture = open_capture(path, truncated=True)
    assert (capture.image.missing // PAGE).tolist() == [[97, 100], [599, 600]]
    assert f"{path}: it is marked as incomplete" in capture.image.warnings
    same_bytes(capture["oldmem"].pread(PAGE, 96 * PAGE), stamped_page(96))
    with pytest.raises(FaultError, match="missing"):
        capture["oldmem"].pread(PAGE, 97 * PAGE)
    with pytest.raises(FaultError, match="missing"):
        capture["vmcore"].pread(capture["vmcore"].size, 0)


@pytest.mark.parametrize("codec", ["zlib", "none"])
def test_a_dump_that_was_cut_short(tmp_path: Path, open_capture: Opener, codec: str) -> None:
    whole = Kdump(range(1, 400), codec=codec).pack()
    for size in range(len(whole) - 1, 9 * PAGE + 24 * 399, -(len(whole) // 9)):
        path = save_dump(tmp_path, whole[:size])
        with pytest.raises(TruncatedError, match="are lost, first"):
            open_capture(path)
        capture = open_capture(path, truncated=True)
        ((first, end),) = (capture.image.missing // PAGE).tolist()
        assert end == 400
        same_bytes(capture["oldmem"].pread((first - 1) * PAGE, PAGE), stamped(PAGE, first * PAGE))


def test_a_dump_that_was_cut_in_its_descriptors(tmp_path: Path, open_capture: Opener) -> None:
    whole = Kdump(range(1, 400)).pack()
    path = save_dump(tmp_path, whole[: 5 * PAGE + 24 * 100 + 5])
    capture = open_capture(path, truncated=True)
    assert (capture.image.missing // PAGE).tolist() == [[1, 400]]


@pytest.mark.parametrize("size", [0, 100, 400, PAGE, PAGE + 50, 3 * PAGE, 4 * PAGE + 1])
def test_a_dump_that_was_cut_in_its_headers(
    tmp_path: Path, open_capture: Opener, size: int
) -> None:
    path = save_dump(tmp_path, Kdump(KEPT, RAM).pack()[:size])
    with pytest.raises((FormatError, ConfigError)) as caught:
        open_capture(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("desc", "says"),
    [
        ((-5, 10, 1), "stored page 0 has 10 bytes at -0x5"),
        ((1, 0, 1), "stored page 0 has 0 bytes at 0x1"),
        ((1, PAGE + 1, 0), f"stored page 0 has {PAGE + 1} bytes at 0x1"),
        ((8, 100, 0), f"a page of 100 bytes, expected {PAGE}"),
        ((8, 100, 1), "a page, but "),
        ((8, 100, 2), "a page, but "),
        ((8, 100, 4), "a page, but "),
        ((8, 100, 32), "a page, but "),
        ((8, 100, 3), "a page, but its flags are 0x3, expected one codec"),
    ],
)
def test_descriptors_that_cannot_be_true(
    tmp_path: Path, open_capture: Opener, desc: tuple[int, int, int], says: str
) -> None:
    dump = bytearray(Kdump(range(1, 400)).pack())
    struct.pack_into("<qII", dump, 5 * PAGE, *desc)
    oldmem = open_capture(save_dump(tmp_path, bytes(dump)))["oldmem"]
    with pytest.raises(SourceIOError) as caught:
        oldmem.pread(1, PAGE)
    assert says in str(caught.value)
    same_bytes(oldmem.pread(PAGE, 2 * PAGE), stamped_page(2))


@pytest.mark.parametrize("size", [PAGE - 1, PAGE + 1, 1 << 40])
def test_a_page_that_grows_is_an_error(tmp_path: Path, open_capture: Opener, size: int) -> None:
    if size > 1 << 20:
        frame = bytes.fromhex("28b52ffde0") + struct.pack("<Q", size) + b"\x01\0\0"
    else:
        frame = zstandard.ZstdCompressor().compress(bytes(size))
    dump = bytearray(Kdump(range(1, 400), codec="zstd").pack())
    dump[-200 : -200 + len(frame)] = frame
    struct.pack_into("<qII", dump, 5 * PAGE, len(dump) - 200, len(frame), 32)
    oldmem = open_capture(save_dump(tmp_path, bytes(dump)))["oldmem"]
    with pytest.raises(SourceIOError):
        oldmem.pread(1, PAGE)
    same_bytes(oldmem.pread(PAGE, 2 * PAGE), stamped_page(2))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"block_size": 5000}, "make sense in no layout"),
        ({"bitmap_blocks": 1 << 31}, "bitmaps of"),
        ({"max_mapnr": 1 << 31, "bitmap_blocks": 2}, "make sense in no layout"),
        ({"sub_hdr_size": 1 << 30}, "bitmaps of"),
        ({"sub_hdr_size": -1}, "make sense in no layout"),
    ],
)
def test_headers_that_cannot_be_true(
    tmp_path: Path, open_capture: Opener, fields: dict[str, int], says: str
) -> None:
    path = save_dump(tmp_path, Kdump(KEPT, RAM).pack(**fields))
    with pytest.raises(FormatError) as caught:
        open_capture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_more_pages_than_the_bitmaps_have_bits(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, Kdump(KEPT, RAM, mapped=PAGE * 8).pack(max_mapnr=7))
    dump = bytearray(path.read_bytes())
    struct.pack_into("<Q", dump, PAGE + 96, 1 << 40)
    with pytest.raises(FormatError, match="bitmaps of"):
        open_capture(save_dump(tmp_path, bytes(dump)))


def test_descriptors_of_the_same_bytes_that_tell_them_otherwise(
    tmp_path: Path, open_capture: Opener
) -> None:
    dump = bytearray(Kdump(range(1, 400)).pack())
    offset, size, flags = struct.unpack_from("<qII", dump, 5 * PAGE)
    struct.pack_into("<qII", dump, 5 * PAGE + 24, offset, PAGE, 0)
    struct.pack_into("<qII", dump, 5 * PAGE + 48, offset, size - 1, flags)
    oldmem = open_capture(save_dump(tmp_path, bytes(dump)))["oldmem"]
    same_bytes(oldmem.pread(2 * PAGE, PAGE), stamped_page(1) + dump[offset : offset + PAGE])
    with pytest.raises(SourceIOError):
        oldmem.pread(PAGE, 3 * PAGE)


def test_more_runs_than_can_be_held_are_refused(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_dump(tmp_path, Kdump(range(1, 400, 2)).pack())
    monkeypatch.setattr(diskdump_part, "MAX_RUNS", 200)
    open_capture(path)
    monkeypatch.setattr(diskdump_part, "MAX_RUNS", 199)
    with pytest.raises(FormatError, match=exactly(f"{path}: more than 199 runs of pages")):
        open_capture(path)


def test_more_runs_in_all_parts_than_can_be_held_are_refused(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = range(1, 400, 2)
    parts = [
        save_dump(tmp_path, Kdump(pages, ram=[], split=split).pack(), f"part{split[0]}")
        for split in ((0, 200), (200, 400))
    ]
    monkeypatch.setattr(diskdump, "MAX_RUNS", 200)
    open_capture(parts)
    monkeypatch.setattr(diskdump, "MAX_RUNS", 199)
    told = f"{parts[0]}: more than 199 runs of pages in all parts"
    with pytest.raises(FormatError, match=exactly(told)):
        open_capture(parts)
