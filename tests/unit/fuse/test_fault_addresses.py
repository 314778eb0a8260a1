"""The physical address of what could not be read, whatever is around the memory."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.builders.elf_dumps import Load, pack_dump, save_dump
from tests.builders.kdumps import PAGE, Kdump, flatten
from tests.conftest import Opener
from vmcorefs import Capture
from vmcorefs.fuse.answers import FileAnswers
from vmcorefs.fuse.inodes import ROOT, number_inodes

PAGES = range(1, 600)
DESCRIPTORS = 5 * PAGE


def spoiled(pages: range, *numbers: int, **fields: Any) -> bytes:
    """A dump of ``pages`` in which the stored bytes of some are no stream of zlib."""
    dump = bytearray(Kdump(PAGES, **fields).pack())
    for number in numbers:
        at = DESCRIPTORS + 24 * pages.index(number)  # a part has descriptors of its own pages
        offset, size = struct.unpack_from("<qI", dump, at)
        dump[offset : offset + size] = bytes(byte ^ 0x5A for byte in dump[offset : offset + size])
    return bytes(dump)


def logged(
    capture: Capture, path: str, places: Sequence[tuple[int, int]], log: pytest.LogCaptureFixture
) -> list[tuple[int, int]]:
    """Read places of a file, ``(offset, size)``; where each line of the log puts the fault.

    That is ``(offset in the file, physical address)``.
    """
    inodes = number_inodes(capture.files)
    answers = FileAnswers(inodes, "plain")
    file = inodes[inodes[ROOT].children[path]].file
    assert file is not None
    log.clear()
    for offset, size in places:
        assert answers.try_read(file, offset, memoryview(bytearray(size))) == errno.EIO
    lines = [
        re.fullmatch(rf"{path} at (\w+): .* \(physical address (\w+)\)", line)
        for line in log.messages
    ]
    return [(int(line[1], 16), int(line[2], 16)) for line in lines if line is not None]


def each_page(*numbers: int) -> list[tuple[int, int]]:
    return [(number * PAGE, number * PAGE) for number in numbers]


def test_each_page_that_cannot_be_decompressed_has_its_address_and_its_line(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    dump = save_dump(tmp_path, spoiled(PAGES, 2, 40, 41))
    places = [(2 * PAGE, PAGE), (40 * PAGE, PAGE), (41 * PAGE, PAGE), (2 * PAGE, PAGE)]
    assert logged(open_capture(dump), "oldmem", places, caplog) == each_page(2, 40, 41)


def test_a_long_read_has_the_address_of_the_page_that_failed(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    dump = save_dump(tmp_path, spoiled(PAGES, 333))
    assert logged(open_capture(dump), "oldmem", [(PAGE, 500 * PAGE)], caplog) == each_page(333)


def test_a_file_with_headers_has_its_own_offset_and_memorys_address(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    capture = open_capture(save_dump(tmp_path, spoiled(PAGES, 40)))
    vmcore = capture["vmcore"]
    headers = vmcore.size - 599 * PAGE
    at = headers + 39 * PAGE
    assert logged(capture, "vmcore", [(at, PAGE)], caplog) == [(at, 40 * PAGE)]


def test_a_lost_descriptor_is_that_of_its_page(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    dump = bytearray(Kdump(PAGES).pack())
    struct.pack_into("<qII", dump, DESCRIPTORS + 24 * 49, 1, PAGE + 1, 0)
    capture = open_capture(save_dump(tmp_path, bytes(dump)))
    assert logged(capture, "oldmem", [(50 * PAGE, PAGE)], caplog) == each_page(50)


def test_a_part_of_a_split_dump_is_read_by_its_own_pages(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [
        save_dump(tmp_path, Kdump(PAGES, split=(0, 300)).pack(), "part1"),
        save_dump(tmp_path, spoiled(range(300, 600), 310, 450, split=(300, 600)), "part2"),
    ]
    capture = open_capture(parts)
    places = [(310 * PAGE, PAGE), (450 * PAGE, PAGE)]
    assert logged(capture, "oldmem", places, caplog) == each_page(310, 450)


def test_a_flattened_dump_is_read_where_its_records_put_it(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    data = spoiled(PAGES, 2, 40)
    pieces = [(at, data[at : at + 5000]) for at in range(0, len(data), 5000)]
    capture = open_capture(save_dump(tmp_path, flatten(pieces[::-1])))
    places = [(2 * PAGE, PAGE), (40 * PAGE, PAGE)]
    assert logged(capture, "oldmem", places, caplog) == each_page(2, 40)


@pytest.fixture
def bad_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Offsets, in whatever file is read, that give EIO once there are some."""
    offsets: list[int] = []
    preadv = os.preadv

    def read(descriptor: int, buffers: list[memoryview], offset: int, *flags: int) -> int:
        count = sum(len(buffer) for buffer in buffers)
        bad = min((at for at in offsets if offset <= at < offset + count), default=None)
        if bad == offset:
            raise OSError(errno.EIO, "Input/output error")
        if bad is not None:  # as the kernel does: first what precedes it
            buffers = [buffers[0][: bad - offset]]
        return preadv(descriptor, buffers, offset, *flags)

    monkeypatch.setattr(os, "preadv", read)
    return offsets


def test_a_bad_sector_below_a_dump_is_that_of_the_page_stored_there(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture, bad_bytes: list[int]
) -> None:
    data = Kdump(PAGES).pack()
    pieces = [(at, data[at : at + 5000]) for at in range(0, len(data), 5000)]
    plain = open_capture(save_dump(tmp_path, data))
    flat = open_capture(save_dump(tmp_path, flatten(pieces[::-1]), "flat"))
    offset, _ = struct.unpack_from("<qI", data, DESCRIPTORS + 24 * 99)
    for capture, name in ((plain, "dump"), (flat, "flat")):
        stored = data[offset : offset + 20]
        bad_bytes[:] = [(tmp_path / name).read_bytes().index(stored)]
        assert logged(capture, "oldmem", [(90 * PAGE, 20 * PAGE)], caplog) == each_page(100)


def test_a_bad_sector_in_the_descriptors_is_that_of_the_first_page_that_they_describe(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture, bad_bytes: list[int]
) -> None:
    capture = open_capture(save_dump(tmp_path, Kdump(PAGES).pack()))
    bad_bytes.append(DESCRIPTORS + PAGE)  # within that of the stored page 170, which is pfn 171
    assert logged(capture, "oldmem", [(160 * PAGE, 20 * PAGE)], caplog) == each_page(171)


def test_a_flattened_elf_dump_is_read_where_its_records_put_it(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture, bad_bytes: list[int]
) -> None:
    data = pack_dump()
    pieces = [(at, data[at : at + PAGE]) for at in range(0, len(data), PAGE)]
    path = save_dump(tmp_path, flatten(pieces[::-1]), "flat")
    capture = open_capture(path)
    bad_bytes.append(path.read_bytes().index(struct.pack("<QQ", 0x150000, 0x150008)))
    assert logged(capture, "oldmem", [(0x140000, 0x20000)], caplog) == [(0x150000, 0x150000)]


def test_bytes_that_are_at_two_addresses_are_told_at_the_one_that_is_read(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture, bad_bytes: list[int]
) -> None:
    path = save_dump(
        tmp_path,
        pack_dump((Load(0x1000, 0x9000), Load(0x100000, 0x108000, offset=2 * PAGE))),
    )
    capture = open_capture(path)
    bad_bytes.append(2 * PAGE + 0x3000)
    places = [(0x103000, PAGE), (0x4000, PAGE)]
    expected = [(0x103000, 0x103000)]  # the other is the same byte of the file
    assert logged(capture, "oldmem", places, caplog) == expected


def test_a_file_given_as_two_pieces_is_told_at_the_piece_that_is_read(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture, bad_bytes: list[int]
) -> None:
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.write_bytes(bytes(range(256)) * 256)
    iomem.write_text("00000000-0000ffff : System RAM\n00100000-0010ffff : System RAM\n")
    capture = open_capture([f"{ram}@0", f"{ram}@1M"], memory_map=iomem)
    bad_bytes.append(0x5000)
    assert logged(capture, "oldmem", [(0x105000, PAGE)], caplog) == [(0x105000, 0x105000)]
    at = capture["vmcore"].size - 0x10000 + 0x5000
    assert logged(capture, "vmcore", [(at, PAGE)], caplog) == [(at, 0x105000)]


def test_bad_sectors_apart_have_a_line_each_and_those_in_a_row_one(
    tmp_path: Path, open_capture: Opener, caplog: pytest.LogCaptureFixture, bad_bytes: list[int]
) -> None:
    ram, iomem = tmp_path / "ram", tmp_path / "iomem"
    ram.write_bytes(bytes(1 << 20))
    iomem.write_text("00000000-000fffff : System RAM\n")
    capture = open_capture(f"{ram}@0", memory_map=iomem)
    bad_bytes += [0x5000, 0x6000, 0x7000, 0x9000]
    places = [(at, PAGE) for at in bad_bytes]
    assert logged(capture, "oldmem", places, caplog) == [(0x5000, 0x5000), (0x9000, 0x9000)]
