"""VMware's saved states: where memory is, by its own description."""

from __future__ import annotations

import struct

import pytest

from tests.builders.vmware import block, pack_vmss, tag
from tests.matching import exactly
from vmcorefs.core.formats.vmware.cpus import read_registers
from vmcorefs.core.formats.vmware.state import Region, State, read_state
from vmcorefs.core.formats.vmware.tags import Tag
from vmcorefs.core.formats.window import Window
from vmcorefs.errors import FormatError, UnsupportedError

REGIONS = [(0, 0, 0xA0000), (0x100000, 0xA0000, 0x200000)]


def read(data: bytes) -> State:
    return read_state(Window(lambda offset, size: data[offset : offset + size], len(data)))


def alone(*tags: bytes) -> bytes:
    body = b"".join(tags)
    head = struct.pack("<3I64sQQ", 0xBED2BED2, 8, 1, b"memory", 92, len(body))
    return head + body


def test_the_regions_say_where_each_part_of_the_memory_belongs() -> None:
    found = read(pack_vmss(REGIONS))
    assert found.regions == (Region(0, 0, 0xA0000), Region(0x100000, 0xA0000, 0x200000))
    assert (found.at, found.is_partial) == (None, False)


def test_the_memory_may_be_in_the_file_itself() -> None:
    data = pack_vmss(memory=b"memory" * 999)
    found = read(data)
    assert found.regions == ()
    assert found.at is not None
    assert data[found.at : found.at + found.size] == b"memory" * 999


def test_a_file_may_be_marked_as_not_complete() -> None:
    assert read(pack_vmss(magic=0xBED3BED3)).is_partial


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pack_vmss()[:100], "it is cut within its list of groups"),
        (struct.pack("<3I", 0xBED2BED2, 8, 1 << 31), "2147483648 groups"),
        (
            alone(tag("regionsCount", b"\2\0\0\0"), b"\0\0"),
            "2 regions of memory, of which not all are described",
        ),
        (
            alone(
                tag("regionsCount", b"\1\0\0\0"),
                *(tag(f"region{name}", b"\0\0\0\0", 0) for name in ("PageNum", "PPN", "Size")),
            ),
            "region 0 of memory has 0 bytes at 0x0",
        ),
        (
            alone(
                tag("regionsCount", b"\1\0\0\0"),
                *(tag(f"region{name}", b"\1\0\0\0", 7) for name in ("PageNum", "PPN", "Size")),
            ),
            "region 0 of memory is not described",
        ),
        (
            alone(struct.pack("<H6sQQH", 6 << 8 | 0x3F, b"Memory", 1 << 63, 1, 0)),
            "a block of 9223372036854775808 bytes at 0x76",
        ),
    ],
)
def test_what_cannot_be_true_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=exactly(why)):
        read(data)


@pytest.mark.parametrize("data", [pack_vmss(REGIONS), pack_vmss(memory=bytes(99))])
def test_a_file_that_is_cut_says_nothing_else_of_memory_than_the_whole_one(data: bytes) -> None:
    whole = read(data)
    told = whole.regions, whole.at, whole.size
    refused = []
    for size in range(len(data)):
        try:
            found = read(data[:size])
        except FormatError as error:
            refused.append(str(error))
        else:
            assert (found.regions, found.at, found.size) == told
    assert len(refused) > 200
    assert all("it is cut within" in why for why in refused)


def test_a_cut_in_front_of_how_many_regions_there_are_is_refused() -> None:
    """It may have several, which lie elsewhere than one would."""
    data = alone(block("Memory", bytes(64)), tag("regionsCount", struct.pack("<I", 0)))
    assert read(data).size == 64
    with pytest.raises(FormatError, match="does not tell before where that lies"):
        read(data[:120])


def test_a_description_of_cpus_that_cannot_be_true_costs_no_memory() -> None:
    endless = struct.pack("<H6sQQH", 6 << 8 | 0x3F, b"gpregs", 1 << 63, 1, 0)
    found = read(pack_vmss(REGIONS, cpus=endless))
    assert found == read(pack_vmss(REGIONS))
    assert found.cpus is None


def test_memory_that_is_compressed_is_named() -> None:
    with pytest.raises(UnsupportedError, match="its memory is compressed"):
        read(alone(block("Memory", b"?", kind=0x3E)))


@pytest.mark.parametrize(("held", "are_there"), [(128, True), (127, False)])
def test_registers_behind_the_end_of_the_file_are_not_zero(held: int, are_there: bool) -> None:
    tags = (Tag(b"cpu:numVCPUs", (), 1), Tag(b"rip", (0,), 5), Tag(b"gpregs", (0,), 128, 0))
    window = Window(lambda offset, size: bytes(held)[offset : offset + size], held)
    assert (read_registers(window, tags) is not None) == are_there
