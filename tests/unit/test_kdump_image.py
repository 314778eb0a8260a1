"""A kdump-compressed dump as the image, in one file or in parts."""

from __future__ import annotations

import json
import os
import random
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.builders.dead_machines import stamped, vmcoreinfo_text
from tests.builders.elf_dumps import pack_dump, save_dump
from tests.builders.kdumps import CODECS, KEPT, NOTES, PAGE, RAM, Kdump, stamped_page
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from vmcorefs import (
    ConfigError,
    FaultError,
    FormatError,
    LayoutError,
    TruncatedError,
)
from vmcorefs.core.space.extents import Kind
from vmcorefs.sources.dumps.pages import DumpPages


@pytest.mark.parametrize("codec", CODECS)
def test_every_page_of_every_codec(tmp_path: Path, open_capture: Opener, codec: str) -> None:
    path = save_dump(tmp_path, Kdump(KEPT, RAM, zeros=[7, 8, 210], codec=codec).pack())
    oldmem = open_capture(path)["oldmem"]
    assert oldmem.size == 600 * PAGE
    for pfn in KEPT:
        expected = bytes(PAGE) if pfn in (7, 8, 210) else stamped_page(pfn)
        same_bytes(oldmem.pread(PAGE, pfn * PAGE), expected, f"page {pfn}")
    same_bytes(oldmem.pread(5000, 20 * PAGE + 100), stamped(20 * PAGE, 22 * PAGE)[100:5100])


def test_pages_that_were_left_out_are_an_error(tmp_path: Path, open_capture: Opener) -> None:
    capture = open_capture(save_dump(tmp_path, Kdump(KEPT, RAM).pack()))
    for pfn in (100, 199, 230, 301, 598):
        with pytest.raises(FaultError, match="excluded"):
            capture["oldmem"].pread(PAGE, pfn * PAGE)
    same_bytes(capture["oldmem"].pread(PAGE, 0), bytes(PAGE))  # no RAM
    excluded = capture.image.memory.only(Kind.EXCLUDED).ranges // PAGE
    assert excluded.tolist() == [[100, 200], [230, 300], [301, 599]]


def test_what_it_says_of_the_machine(tmp_path: Path, open_capture: Opener) -> None:
    image = open_capture(save_dump(tmp_path, Kdump(KEPT, RAM).pack())).image
    assert image.memory_map.ram.tolist() == [[PAGE, 600 * PAGE]]
    assert image.plan.elfcorehdr.header.e_machine == 62
    assert image.memory_map.dialect == "the RAM of a kdump-compressed dump of level 31"
    assert [len(slot.notes) for slot in image.notes.cpu_slots] == [1]
    assert image.notes.vmcoreinfo is not None
    assert image.notes.vmcoreinfo.text == vmcoreinfo_text()


def test_a_given_map_may_end_within_a_page(tmp_path: Path, open_capture: Opener) -> None:
    path = save_dump(tmp_path, Kdump(KEPT, RAM).pack())
    iomem = tmp_path / "iomem"
    iomem.write_text("00001000-00257bff : System RAM\n")  # a page less 1 KiB
    assert open_capture(path, memory_map=iomem)["oldmem"].size == 600 * PAGE - 1024
    iomem.write_text("00001000-00256fff : System RAM\n")
    with pytest.raises(LayoutError, match=r"it has RAM at \[0x257000, 0x258000\), where"):
        open_capture(path, memory_map=iomem)


def test_the_vmcore_does_not_store_what_the_dump_has_not(
    tmp_path: Path, open_capture: Opener
) -> None:
    vmcore = open_capture(save_dump(tmp_path, Kdump(KEPT, RAM).pack()))["vmcore"]
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
    capture = open_capture(save_dump(tmp_path, Kdump(KEPT, RAM, notes=None).pack()))
    assert capture["vmcoreinfo"].pread(PAGE, 0) == vmcoreinfo_text()
    vmcore = capture["vmcore"]
    assert vmcoreinfo_text() in vmcore.pread(2 * PAGE, 0)
    assert capture.image.notes.cpu_slots == ()


def test_a_big_endian_dump(tmp_path: Path, open_capture: Opener) -> None:
    notes = struct.pack(">3I", 11, 10, 0) + b"VMCOREINFO\0\0" + b"OSRELEASE=\0\0"
    dump = Kdump(KEPT, RAM, order=">", machine=b"s390x", notes=notes).pack()
    capture = open_capture(save_dump(tmp_path, dump))
    header = capture.image.plan.elfcorehdr.header
    assert (header.byte_order, header.e_machine, header.elf_class) == (">", 22, 2)
    same_bytes(capture["oldmem"].pread(PAGE, PAGE), stamped_page(1))


def parts(directory: Path) -> list[Path]:
    spans = [(0, 50), (50, 210), (210, 600)]
    return [
        save_dump(directory, Kdump(KEPT, RAM, split=span).pack(), f"part{n}")
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
    with pytest.raises(
        TruncatedError,
        match=exactly(
            f"{one}, {three}: parts of a split dump; pages [0x32000, 0xd2000) are in a part that"
            " was not given: give all parts; pass --truncated to serve the rest, and EIO for these"
        ),
    ):
        open_capture([one, three])
    capture = open_capture([one, three], truncated=True)
    same_bytes(capture["oldmem"].pread(PAGE, 229 * PAGE), stamped_page(229))
    with pytest.raises(FaultError, match="missing"):
        capture["oldmem"].pread(1, 60 * PAGE)


def test_each_part_that_is_not_given_is_told(tmp_path: Path, open_capture: Opener) -> None:
    _, two, three = parts(tmp_path)
    for given, told in (
        (
            [two],
            "a part of a split dump; pages [0x0, 0x32000) and [0xd2000, 0x258000) are in parts",
        ),
        ([three], "a part of a split dump; pages [0x0, 0xd2000) are in a part that was not given"),
        ([two, three], "parts of a split dump; pages [0x0, 0x32000) are in a part that was not"),
    ):
        with pytest.raises(TruncatedError) as caught:
            open_capture(given)
        assert str(caught.value).startswith(f"{', '.join(map(str, given))}: {told}")


def test_what_a_part_has_lost_is_told_beside_the_part_that_is_not_given(
    tmp_path: Path, open_capture: Opener
) -> None:
    save = {
        n: Kdump(KEPT, RAM, split=span, lost=[KEPT[0]] if n == 0 else []).pack()
        for n, span in enumerate([(0, 50), (50, 600)])
    }
    one = save_dump(tmp_path, save[0], "part0")
    with pytest.raises(TruncatedError) as caught:
        open_capture(one)
    said = str(caught.value)
    assert said.startswith(f"{one}: 4 KiB of memory that it should have are lost, first [0x")
    assert f"; {one}: a part of a split dump; pages [0x32000, " in said


def test_what_is_no_part_is_refused(tmp_path: Path, open_capture: Opener) -> None:
    one, two, _ = parts(tmp_path)
    whole = save_dump(tmp_path, Kdump(KEPT, RAM).pack(), "whole")
    with pytest.raises(FormatError, match="not a part of a dump that was split"):
        open_capture([one, whole])
    again = save_dump(tmp_path, one.read_bytes(), "again")
    with pytest.raises(FormatError, match=f"the pages from 0 on, which {one} has too"):
        open_capture([one, again])
    other = save_dump(tmp_path, two.read_bytes().replace(b"x86_64", b"x86_65"), "other")
    with pytest.raises(FormatError, match="a part of another dump"):
        open_capture([one, other])
    elf = save_dump(tmp_path, pack_dump(), "elf")
    with pytest.raises(ConfigError, match="give it alone"):
        open_capture([one, elf])


def test_many_threads_read_pages_in_any_order(tmp_path: Path, open_capture: Opener) -> None:
    kept = [pfn for pfn in range(1, 3000) if pfn % 7]
    oldmem = open_capture(save_dump(tmp_path, Kdump(kept, range(3001)).pack()))["oldmem"]
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
    oldmem = open_capture(save_dump(tmp_path, Kdump(range(1, last + 1)).pack()))["oldmem"]
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


def test_the_layout_counts_its_pages_unpacked(tmp_path: Path, open_capture: Opener) -> None:
    capture = open_capture(save_dump(tmp_path, Kdump(KEPT, RAM, codec="zstd").pack()))
    layout = json.loads(capture["layout.json"].pread(1 << 20, 0))
    stored = [e for e in layout["files"]["oldmem"]["extents"] if e["kind"] == "data"]
    # 99 pages from page 1 on, 30 from page 200 on, then 300 and 599: descriptors 0, 99, 129, 130
    assert [(e["offset"] // PAGE, e["source_offset"] // PAGE) for e in stored] == [
        (1, 0),
        (200, 99),
        (300, 129),
        (599, 130),
    ]
