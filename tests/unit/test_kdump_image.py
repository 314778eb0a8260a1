"""A kdump-compressed dump as the image, and one in a flattened stream."""

from __future__ import annotations

import os
import random
import struct
import threading
import time
from pathlib import Path

import pytest
import zstandard

from tests.builders import stamped, vmcoreinfo_text
from tests.conftest import Opener
from tests.elf_dumps import pack_dump
from tests.kdumps import CODECS, NOTES, PAGE, Kdump, flatten, stamped_page
from tests.matching import exactly, same_bytes
from vmcorefs import (
    ConfigError,
    FaultError,
    FormatError,
    LayoutError,
    SourceIOError,
    TruncatedError,
)
from vmcorefs.core.extents import Kind
from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.pages import DumpPages

RAM = range(1, 600)
KEPT = [*range(1, 100), *range(200, 230), 300, 599]


def save(directory: Path, data: bytes, name: str = "dump") -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", CODECS)
def test_every_page_of_every_codec(tmp_path: Path, open_capture: Opener, codec: str) -> None:
    path = save(tmp_path, Kdump(KEPT, RAM, zeros=[7, 8, 210], codec=codec).pack())
    oldmem = open_capture(path)["oldmem"]
    assert oldmem.size == 600 * PAGE
    for pfn in KEPT:
        expected = bytes(PAGE) if pfn in (7, 8, 210) else stamped_page(pfn)
        same_bytes(oldmem.pread(PAGE, pfn * PAGE), expected, f"page {pfn}")
    same_bytes(oldmem.pread(5000, 20 * PAGE + 100), stamped(20 * PAGE, 22 * PAGE)[100:5100])


def test_pages_that_were_left_out_are_an_error(tmp_path: Path, open_capture: Opener) -> None:
    capture = open_capture(save(tmp_path, Kdump(KEPT, RAM).pack()))
    for pfn in (100, 199, 230, 301, 598):
        with pytest.raises(FaultError, match="excluded"):
            capture["oldmem"].pread(PAGE, pfn * PAGE)
    same_bytes(capture["oldmem"].pread(PAGE, 0), bytes(PAGE))  # no RAM
    excluded = capture.image.memory.only(Kind.EXCLUDED).ranges // PAGE
    assert excluded.tolist() == [[100, 200], [230, 300], [301, 599]]


def test_what_it_says_of_the_machine(tmp_path: Path, open_capture: Opener) -> None:
    image = open_capture(save(tmp_path, Kdump(KEPT, RAM).pack())).image
    assert image.memory_map.ram.tolist() == [[PAGE, 600 * PAGE]]
    assert image.plan.elfcorehdr.header.e_machine == 62
    assert image.memory_map.dialect == "the RAM of a kdump-compressed dump of level 31"
    assert [len(slot.notes) for slot in image.notes.cpu_slots] == [1]
    assert image.notes.vmcoreinfo is not None
    assert image.notes.vmcoreinfo.text == vmcoreinfo_text()


def test_a_given_map_may_end_within_a_page(tmp_path: Path, open_capture: Opener) -> None:
    path = save(tmp_path, Kdump(KEPT, RAM).pack())
    iomem = tmp_path / "iomem"
    iomem.write_text("00001000-00257bff : System RAM\n")  # a page less 1 KiB
    assert open_capture(path, memory_map=iomem)["oldmem"].size == 600 * PAGE - 1024
    iomem.write_text("00001000-00256fff : System RAM\n")
    with pytest.raises(LayoutError, match=r"it has RAM at \[0x257000, 0x258000\), where"):
        open_capture(path, memory_map=iomem)


def test_the_vmcore_does_not_store_what_the_dump_has_not(
    tmp_path: Path, open_capture: Opener
) -> None:
    vmcore = open_capture(save(tmp_path, Kdump(KEPT, RAM).pack()))["vmcore"]
    head = vmcore.pread(PAGE, 0)
    count = struct.unpack_from("<H", head, 56)[0]
    loads = [struct.unpack_from("<8x5Q", head, 64 + 56 * n) for n in range(1, count)]
    # 299 pages are a run that is taken out; shorter ones are holes
    assert [
        (paddr // PAGE, filesz // PAGE, memsz // PAGE) for _, _, paddr, filesz, memsz in loads
    ] == [(1, 300, 300), (599, 1, 1)]
    same_bytes(vmcore.pread(PAGE, loads[0][0]), stamped_page(1))
    same_bytes(vmcore.pread(PAGE, loads[0][0] + 120 * PAGE), bytes(PAGE))
    same_bytes(vmcore.pread(PAGE, loads[1][0]), stamped_page(599))
    assert NOTES in vmcore.pread(vmcore.size, 0)


def test_version_3_has_vmcoreinfo_and_no_notes(tmp_path: Path, open_capture: Opener) -> None:
    capture = open_capture(save(tmp_path, Kdump(KEPT, RAM, notes=None).pack()))
    assert capture["vmcoreinfo"].pread(PAGE, 0) == vmcoreinfo_text()
    vmcore = capture["vmcore"]
    assert vmcoreinfo_text() in vmcore.pread(2 * PAGE, 0)
    assert capture.image.notes.cpu_slots == ()


def test_a_big_endian_dump(tmp_path: Path, open_capture: Opener) -> None:
    notes = struct.pack(">3I", 11, 10, 0) + b"VMCOREINFO\0\0" + b"OSRELEASE=\0\0"
    dump = Kdump(KEPT, RAM, order=">", machine=b"s390x", notes=notes).pack()
    capture = open_capture(save(tmp_path, dump))
    header = capture.image.plan.elfcorehdr.header
    assert (header.byte_order, header.e_machine, header.elf_class) == (">", 22, 2)
    same_bytes(capture["oldmem"].pread(PAGE, PAGE), stamped_page(1))


@pytest.mark.parametrize("truncated", [False, True])
def test_lost_pages_of_an_incomplete_dump(
    tmp_path: Path, open_capture: Opener, *, truncated: bool
) -> None:
    path = save(tmp_path, Kdump(KEPT, RAM, status=8, lost=[97, 98, 99, 599]).pack())
    if not truncated:
        with pytest.raises(
            TruncatedError,
            match=exactly(
                f"{path}: 16 KiB of memory that it should have are lost, first [0x61000, 0x64000);"
                " pass --truncated to serve the rest, with EIO for those"
            ),
        ):
            open_capture(path)
        return
    capture = open_capture(path, truncated=True)
    assert (capture.image.missing // PAGE).tolist() == [[97, 100], [599, 600]]
    assert f"{path}: it says of itself that it is incomplete" in capture.image.warnings
    same_bytes(capture["oldmem"].pread(PAGE, 96 * PAGE), stamped_page(96))
    with pytest.raises(FaultError, match="missing"):
        capture["oldmem"].pread(PAGE, 97 * PAGE)
    with pytest.raises(FaultError, match="missing"):
        capture["vmcore"].pread(capture["vmcore"].size, 0)


@pytest.mark.parametrize("codec", ["zlib", "none"])
def test_a_dump_that_was_cut_short(tmp_path: Path, open_capture: Opener, codec: str) -> None:
    whole = Kdump(range(1, 400), codec=codec).pack()
    for size in range(len(whole) - 1, 9 * PAGE + 24 * 399, -(len(whole) // 9)):
        path = save(tmp_path, whole[:size])
        with pytest.raises(TruncatedError, match="are lost, first"):
            open_capture(path)
        capture = open_capture(path, truncated=True)
        ((first, end),) = (capture.image.missing // PAGE).tolist()
        assert end == 400
        same_bytes(capture["oldmem"].pread((first - 1) * PAGE, PAGE), stamped(PAGE, first * PAGE))


def test_a_dump_that_was_cut_in_its_descriptors(tmp_path: Path, open_capture: Opener) -> None:
    whole = Kdump(range(1, 400)).pack()
    path = save(tmp_path, whole[: 5 * PAGE + 24 * 100 + 5])
    capture = open_capture(path, truncated=True)
    assert (capture.image.missing // PAGE).tolist() == [[1, 400]]


@pytest.mark.parametrize("size", [0, 100, 400, PAGE, PAGE + 50, 3 * PAGE, 4 * PAGE + 1])
def test_a_dump_that_was_cut_in_its_headers(
    tmp_path: Path, open_capture: Opener, size: int
) -> None:
    path = save(tmp_path, Kdump(KEPT, RAM).pack()[:size])
    with pytest.raises((FormatError, ConfigError)) as caught:
        open_capture(path)
    assert str(path) in str(caught.value)


def parts(directory: Path) -> list[Path]:
    spans = [(0, 50), (50, 210), (210, 600)]
    return [
        save(directory, Kdump(KEPT, RAM, split=span).pack(), f"part{n}")
        for n, span in enumerate(spans)
    ]


def test_the_parts_of_a_split_dump_are_one(tmp_path: Path, open_capture: Opener) -> None:
    one, two, three = parts(tmp_path)
    capture = open_capture([three, one, two])
    for pfn in KEPT:
        same_bytes(capture["oldmem"].pread(PAGE, pfn * PAGE), stamped_page(pfn), f"page {pfn}")
    assert capture.image.missing.tolist() == []
    assert capture.image.memory_map.dialect.endswith("in 3 parts")


def test_a_part_that_is_not_given_is_missing(tmp_path: Path, open_capture: Opener) -> None:
    one, _, three = parts(tmp_path)
    with pytest.raises(TruncatedError, match=r"640 KiB .* first \[0x32000, 0xd2000\)"):
        open_capture([one, three])
    capture = open_capture([one, three], truncated=True)
    same_bytes(capture["oldmem"].pread(PAGE, 229 * PAGE), stamped_page(229))
    with pytest.raises(FaultError, match="missing"):
        capture["oldmem"].pread(1, 60 * PAGE)


def test_what_is_no_part_is_refused(tmp_path: Path, open_capture: Opener) -> None:
    one, two, _ = parts(tmp_path)
    whole = save(tmp_path, Kdump(KEPT, RAM).pack(), "whole")
    with pytest.raises(FormatError, match="not a part of a dump that was split"):
        open_capture([one, whole])
    again = save(tmp_path, one.read_bytes(), "again")
    with pytest.raises(FormatError, match=f"the pages from 0 on, which {one} has too"):
        open_capture([one, again])
    other = save(tmp_path, two.read_bytes().replace(b"x86_64", b"x86_65"), "other")
    with pytest.raises(FormatError, match="a part of another dump"):
        open_capture([one, other])
    elf = save(tmp_path, pack_dump(), "elf")
    with pytest.raises(ConfigError, match="give it alone"):
        open_capture([one, elf])


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
    oldmem = open_capture(save(tmp_path, bytes(dump)))["oldmem"]
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
    oldmem = open_capture(save(tmp_path, bytes(dump)))["oldmem"]
    with pytest.raises(SourceIOError):
        oldmem.pread(1, PAGE)


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
    path = save(tmp_path, Kdump(KEPT, RAM).pack(**fields))
    with pytest.raises(FormatError) as caught:
        open_capture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_more_pages_than_the_bitmaps_have_bits(tmp_path: Path, open_capture: Opener) -> None:
    path = save(tmp_path, Kdump(KEPT, RAM, mapped=PAGE * 8).pack(max_mapnr=7))
    dump = bytearray(path.read_bytes())
    struct.pack_into("<Q", dump, PAGE + 96, 1 << 40)
    with pytest.raises(FormatError, match="bitmaps of"):
        open_capture(save(tmp_path, bytes(dump)))


def test_many_threads_read_pages_in_any_order(tmp_path: Path, open_capture: Opener) -> None:
    kept = [pfn for pfn in range(1, 3000) if pfn % 7]
    oldmem = open_capture(save(tmp_path, Kdump(kept, range(3001)).pack()))["oldmem"]
    wrong: list[int] = []

    def read(seed: int) -> None:
        chosen = random.Random(seed)  # noqa: S311  # the same order in every run
        runs = list(range(1, 2990, 7))
        if seed % 2:
            chosen.shuffle(runs)
        wrong.extend(
            first
            for first in runs
            if oldmem.pread(6 * PAGE, first * PAGE) != stamped(first * PAGE, (first + 6) * PAGE)
        )

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_was_being_read_ahead_when_a_daemon_forked_is_read_there(
    tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, decompress = 2000, DumpPages._decompress

    def slowly(pages: DumpPages, first: int, end: int) -> list[bytes | bytearray]:
        time.sleep(0.1)
        return decompress(pages, first, end)

    monkeypatch.setattr(DumpPages, "_decompress", slowly)
    oldmem = open_capture(save(tmp_path, Kdump(range(1, last + 1)).pack()))["oldmem"]
    for first in (1, 5):
        oldmem.pread(4 * PAGE, first * PAGE)  # in order: more batches are queued than threads
    child = os.fork()
    if not child:
        right = False
        try:
            right = oldmem.pread(last * PAGE, PAGE) == stamped(PAGE, (last + 1) * PAGE)
        finally:
            os._exit(not right)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    same_bytes(oldmem.pread(last * PAGE, PAGE), stamped(PAGE, (last + 1) * PAGE))


def shuffled(data: bytes, size: int = 5000) -> list[tuple[int, bytes]]:
    pieces = [(at, data[at : at + size]) for at in range(0, len(data), size)]
    random.Random(1).shuffle(pieces)  # noqa: S311  # the same order in every run
    return pieces


@pytest.mark.parametrize("data", [Kdump(KEPT, RAM).pack(), pack_dump()], ids=["kdump", "elf"])
def test_a_flattened_dump_in_any_order(tmp_path: Path, open_capture: Opener, data: bytes) -> None:
    plain = open_capture(save(tmp_path, data))
    # the header is written first, and again at the end
    stream = flatten([(0, b"\xff" * 7000), *shuffled(data)])
    flat = open_capture(save(tmp_path, stream, "flat"))
    for file in ("vmcore", "oldmem", "crash_notes", "vmcoreinfo"):
        table = plain[file].reader.table
        assert plain[file].size == flat[file].size
        for start, end in table.only(Kind.DATA, Kind.ZERO, Kind.HOLE).ranges.tolist():
            same_bytes(flat[file].pread(end - start, start), plain[file].pread(end - start, start))


def test_what_no_record_has_is_zeros_unless_the_stream_was_cut(
    tmp_path: Path, open_capture: Opener
) -> None:
    data = Kdump(KEPT, RAM, zeros=[7], codec="none").pack()
    pieces = [(at, data[at : at + 512]) for at in range(0, len(data), 512)]
    kept = [(at, piece) for at, piece in pieces if any(piece)]
    assert len(kept) < len(pieces)
    flat = open_capture(save(tmp_path, flatten(kept)))
    same_bytes(flat["oldmem"].pread(PAGE, 7 * PAGE), bytes(PAGE))
    cut = open_capture(save(tmp_path, flatten(kept, ends=False), "cut"))
    same_bytes(cut["oldmem"].pread(PAGE, 8 * PAGE), stamped_page(8))
    with pytest.raises(SourceIOError, match="the stream was cut before that"):
        cut["oldmem"].pread(PAGE, 7 * PAGE)


def test_a_flattened_dump_that_was_cut(tmp_path: Path, open_capture: Opener) -> None:
    data = Kdump(range(1, 400), codec="none").pack()
    whole = flatten([(at, data[at : at + 3000]) for at in range(0, len(data), 3000)])
    path = save(tmp_path, whole[:-500_000])
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
            "of what is no known dump",
        ),
        (flatten([(0, flatten([]))]), UnsupportedError, "of what is no known dump"),
        (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 2, 1) + bytes(4064), FormatError, "type 2"),
        (flatten([])[:-16] + struct.pack(">qq", -5, 10), FormatError, "of 10 bytes at offset -0x5"),
        (flatten([])[:-16] + struct.pack(">qq", 1 << 62, 10), FormatError, "of 10 bytes at"),
        (flatten([])[:-16] + struct.pack(">qq", 5, -10), FormatError, "of -10 bytes"),
        (flatten([(0, b"xx"), (1, b"yy")] * 3000), FormatError, "6000 records overlap"),
        (b"makedumpfile\0\0\0\0", FormatError, "no flattened dump"),
    ],
)
def test_streams_that_are_no_dump(
    tmp_path: Path, open_capture: Opener, stream: bytes, error: type[Exception], says: str
) -> None:
    path = save(tmp_path, stream)
    with pytest.raises(error) as caught:
        open_capture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
