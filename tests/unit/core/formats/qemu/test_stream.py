"""QEMU's streams: sections, blocks, and the pages of each."""

from __future__ import annotations

import struct

import pytest

from tests.builders.qemu import (
    PAGE,
    STORED,
    XBZRLE,
    block_list,
    capabilities,
    configuration,
    end_of_records,
    pages_of,
    records,
    start,
)
from tests.matching import exactly
from vmcorefs.core.formats.qemu.ram import Block, Pages, read_blocks
from vmcorefs.core.formats.qemu.stream import (
    Configuration,
    Cursor,
    CutError,
    read_section,
    read_start,
)
from vmcorefs.core.formats.window import Window
from vmcorefs.errors import FormatError, UnsupportedError


def at_start(data: bytes) -> Cursor:
    return Cursor(Window(lambda offset, size: data[offset : offset + size], len(data)), 0)


def test_the_configuration_says_the_machine_and_what_the_stream_needs() -> None:
    bits = b"\5\x1econfiguration/target-page-bits" + struct.pack(">II", 1, 16)
    data = configuration("virt-7.2", bits, capabilities("mapped-ram")) + start()
    assert read_start(at_start(data)) == Configuration("virt-7.2", 1 << 16, ("mapped-ram",))


def test_a_stream_of_before_configurations_begins_with_its_first_section() -> None:
    cursor = at_start(b"QEVM\0\0\0\3" + start())
    assert read_start(cursor) == Configuration("", 4096, ())
    assert read_section(cursor, None) == (3, False)


def test_what_precedes_ram_is_named() -> None:
    cursor = at_start(start("block", 2))
    expected = "a section of 'block' at 0x0, before the end of RAM, whose length is not told"
    with pytest.raises(UnsupportedError, match=exactly(expected)):
        read_section(cursor, None)


def test_an_older_form_of_ram_is_named() -> None:
    with pytest.raises(UnsupportedError, match=exactly("RAM in a form of version 3, expected 4")):
        read_section(at_start(start(version=3)), None)


def test_a_section_may_have_a_footer() -> None:
    parts = b"\2\0\0\0\3" + b"\x7e\0\0\0\3" + b"\3\0\0\0\3"
    cursor = at_start(parts)
    assert read_section(cursor, 3) == (3, False)
    assert read_section(cursor, 3) == (3, True)
    with pytest.raises(CutError):
        read_section(cursor, 3)


def read(sizes: dict[str, int], *more: bytes) -> Pages:
    cursor = at_start(block_list(sizes) + b"".join(more))
    pages = Pages(read_blocks(cursor, PAGE, lambda _cursor, _block: None), PAGE)
    pages.read_records(cursor)
    return pages


DATA = [bytes([n]) * PAGE for n in range(1, 6)]


def test_pages_that_follow_each_other_are_one_run() -> None:
    ram = b"".join(DATA[:3]) + bytes(2 * PAGE) + DATA[4]
    where = 8 + (1 + 2 + 8) + (1 + 6 + 8)  # the list
    packed = records("vm", pages_of(DATA[0])), records("pc.ram", pages_of(ram))
    pages = read({"vm": PAGE, "pc.ram": len(ram)}, *packed, end_of_records())
    first = where + 8 + 3  # in the record: a number and the name
    second = first + PAGE + 8 + 7
    assert pages.blocks["pc.ram"] == Block("pc.ram", 6 * PAGE, PAGE)
    assert pages.table.tolist() == [
        [0, 1, first, PAGE + 8],
        [PAGE, 3, second, PAGE + 8],
        [4 * PAGE, 2, -1, 0],
        [6 * PAGE, 1, second + 3 * (PAGE + 8) - 8 + 2 * 9 + 8, PAGE + 8],
    ]


def test_thousands_of_pages_are_still_one_run() -> None:
    count = 3000
    pages = read(
        {"pc.ram": count * PAGE},
        records("pc.ram", ((n * PAGE, DATA[0]) for n in range(count))),
        end_of_records(),
    )
    assert pages.table[:, :2].tolist() == [[0, count]]
    pages = read(
        {"pc.ram": 1 << 32},
        records("pc.ram", ((n * PAGE, bytes(PAGE)) for n in range(1 << 18))),
        end_of_records(),
    )
    assert pages.table[:, 1].sum() == 1 << 18


def test_a_page_of_one_byte_other_than_zero_is_that_byte() -> None:
    head = struct.pack(">Q", 2) + b"\6pc.ram"
    pages = read({"pc.ram": 2 * PAGE}, head + b"\7", end_of_records())
    assert pages.table.tolist() == [[0, 1, 8 + 15 + 15, 0]]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (XBZRLE, "pages packed by XBZRLE, as differences from what they were before, from 0x17 on"),
        (0x80, "pages sent by RDMA, outside of the stream, from 0x17 on"),
        (0x100, "pages compressed one by one (the capability compress), from 0x17 on"),
    ],
)
def test_pages_in_another_form_are_named(flags: int, why: str) -> None:
    with pytest.raises(UnsupportedError, match=exactly(why)):
        read({"pc.ram": PAGE}, struct.pack(">Q", flags) + b"\6pc.ram")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (struct.pack(">Q", STORED | 1), "a record with the flags 0x9 at 0x17"),
        (struct.pack(">Q", STORED | 32), "a page of no block before 0x1f"),
        (struct.pack(">Q", STORED) + b"\4none", "a page of 'none', which is no block, before 0x24"),
        (
            struct.pack(">Q", 2 * PAGE | STORED) + b"\6pc.ram",
            "a page at 0x2000 of 'pc.ram', at 0x17",
        ),
    ],
)
def test_a_record_that_cannot_be_true_is_refused(record: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=exactly(why)):
        read({"pc.ram": 2 * PAGE}, record + bytes(PAGE))


def test_what_precedes_a_cut_has_been_read() -> None:
    packed = records("pc.ram", pages_of(b"".join(DATA)))
    cursor = at_start(block_list({"pc.ram": 5 * PAGE}) + packed[:-1])
    pages = Pages(read_blocks(cursor, PAGE, lambda _cursor, _block: None), PAGE)
    with pytest.raises(CutError):
        pages.read_records(cursor)
    assert pages.table[:, :2].tolist() == [[0, 4]]
    assert cursor.at == 8 + 15 + len(packed) - PAGE - 8  # where the fifth record begins


def test_blocks_that_do_not_add_up_are_refused() -> None:
    total = block_list({"pc.ram": 2 * PAGE})[:8]
    cursor = at_start(total + struct.pack(">B6sQ", 6, b"pc.ram", 5 * PAGE))
    expected = "a block 'pc.ram' of 20480 bytes, where 8192 are left"
    with pytest.raises(FormatError, match=exactly(expected)):
        read_blocks(cursor, PAGE, lambda _cursor, _block: None)
