"""Headers against the offsets that crash's diskdump.c lists, and against hand-made bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vmcorefs.core.formats.c_struct import Abi
from vmcorefs.core.formats.kdump.descriptors import (
    Places,
    bitmap_blocks,
    desc_dtype,
    pack_bits,
    places,
    unpack_bits,
)
from vmcorefs.core.formats.kdump.headers import (
    MainHeader,
    SubHeader,
    Utsname,
    pack_main_header,
    pack_sub_header,
    parse_main_header,
    parse_sub_header,
    sub_header_size,
)
from vmcorefs.core.formats.magics import KDUMP
from vmcorefs.errors import FormatError

# abi, offset of tv_sec, of status, size of a long
ABIS = [
    (Abi("<", 64), 408, 424, "Q"),
    (Abi(">", 64), 408, 424, "Q"),
    (Abi("<", 32, packed=True), 404, 412, "I"),
    (Abi(">", 32), 404, 412, "I"),
]
# where crash's comment has offset_vmcoreinfo, offset_note, start_pfn_64 and max_mapnr_64
SUB_OFFSETS = [
    (Abi("<", 64), (32, 48, 80, 96), 104),
    (Abi("<", 32, packed=True), (20, 32, 56, 72), 80),
    (Abi("<", 32), (24, 40, 72, 88), 96),
]


def made(abi: Abi, **changed: int) -> MainHeader:
    fields = {"block_size": 4096, "sub_hdr_size": 2, "bitmap_blocks": 16, "max_mapnr": 262108}
    return MainHeader(abi=abi, utsname=Utsname(machine=b"x86_64"), **(fields | changed))


@pytest.mark.parametrize(("abi", "tv_sec", "status", "long"), ABIS)
def test_a_main_header_is_the_machine_s_own_structure(
    abi: Abi, tv_sec: int, status: int, long: str
) -> None:
    data = pack_main_header(made(abi, tv_sec=77, status=9, nr_cpus=5))

    assert data[:8] == KDUMP
    assert struct.unpack_from(abi.byte_order + "i", data, 8) == (6,)
    assert data[12 + 4 * 65 :].startswith(b"x86_64\0")
    assert struct.unpack_from(abi.byte_order + long, data, tv_sec) == (77,)
    assert struct.unpack_from(abi.byte_order + "IiiIIIIIIi", data, status) == (
        *(9, 4096, 2, 16, 262108, 0, 0, 0, 0, 5),
    )
    assert len(data) == status + 40


@pytest.mark.parametrize(("abi", "tv_sec", "status", "long"), ABIS)
def test_a_main_header_is_known_whatever_machine_wrote_it(
    abi: Abi, tv_sec: int, status: int, long: str
) -> None:
    data = bytearray(4096)
    struct.pack_into(abi.byte_order + "8si", data, 0, KDUMP, 6)
    data[12 + 4 * 65 : 12 + 4 * 65 + 9] = b"riscv64\0x"
    struct.pack_into(abi.byte_order + long, data, tv_sec, 1700000000)
    struct.pack_into(abi.byte_order + "IiiII", data, status, 1, 65536, 3, 2, 500000)

    main = parse_main_header(bytes(data))

    assert (main.abi.byte_order, main.abi.bits) == (abi.byte_order, abi.bits)
    assert (main.utsname.machine, main.tv_sec, main.status) == (b"riscv64", 1700000000, 1)
    assert (main.block_size, main.sub_hdr_size, main.bitmap_blocks) == (65536, 3, 2)


@pytest.mark.parametrize("changed", [{"block_size": 5000}, {"sub_hdr_size": 0}, {"max_mapnr": 0}])
def test_a_main_header_that_makes_no_sense_is_refused(changed: dict[str, int]) -> None:
    data = pack_main_header(made(Abi("<", 64), **changed)).ljust(4096, b"\0")

    with pytest.raises(FormatError, match="make sense in no layout"):
        parse_main_header(data)


@pytest.mark.parametrize(("abi", "offsets", "size"), SUB_OFFSETS)
def test_a_sub_header_is_where_crash_expects_it(
    abi: Abi, offsets: tuple[int, ...], size: int
) -> None:
    sub = SubHeader(offset_vmcoreinfo=4600, offset_note=4200, start_pfn_64=1, max_mapnr_64=2**33)
    data = pack_sub_header(sub, abi)

    assert len(data) == sub_header_size(abi) == size
    assert [struct.unpack_from("<Q", data, at)[0] for at in offsets] == [4600, 4200, 1, 2**33]


@pytest.mark.parametrize("abi", [Abi("<", 32, packed=True), Abi("<", 32)])
def test_the_alignment_of_a_32_bit_machine_is_seen_by_where_vmcoreinfo_lies(abi: Abi) -> None:
    sub = SubHeader(dump_level=31, offset_vmcoreinfo=4600, size_vmcoreinfo=1700, max_mapnr_64=9)

    read = parse_sub_header(made(Abi("<", 32, packed=True)), pack_sub_header(sub, abi).ljust(4096))

    assert read == sub


def test_an_old_sub_header_has_only_the_fields_of_its_version() -> None:
    data = struct.pack("<QiiQQ", 0x1000, 31, 1, 64, 128).ljust(4096, b"\xff")

    read = parse_sub_header(made(Abi("<", 64), header_version=2), data)

    assert read == SubHeader(
        phys_base=0x1000,
        dump_level=31,
        split=1,
        start_pfn=64,
        end_pfn=128,
        start_pfn_64=64,
        end_pfn_64=128,
        max_mapnr_64=262108,
    )


def test_a_sub_header_with_an_absurd_offset_is_refused() -> None:
    data = pack_sub_header(SubHeader(offset_note=2**63), Abi("<", 64)).ljust(4096, b"\0")

    with pytest.raises(FormatError, match="offset_note is 0x8000000000000000"):
        parse_sub_header(made(Abi("<", 64)), data)


@pytest.mark.parametrize("name", ["start_pfn_64", "end_pfn_64"])
def test_a_part_of_pages_that_cannot_be_is_refused(name: str) -> None:
    # found by damaging dumps: numbers above 2**63 ended in OverflowError
    absurd = {name: 2**64 - 1}
    whole, part = SubHeader(**absurd), SubHeader(split=1, **absurd)
    abi = Abi("<", 64)

    assert parse_sub_header(made(abi), pack_sub_header(whole, abi).ljust(4096, b"\0")) == whole
    with pytest.raises(FormatError, match=f"{name} is 0xffffffffffffffff"):
        parse_sub_header(made(abi), pack_sub_header(part, abi).ljust(4096, b"\0"))


def test_the_parts_follow_each_other() -> None:
    # as makedumpfile 1.7.2 laid out a dump of 1 GiB
    assert places(made(Abi("<", 64)), 262108) == Places(12288, 45056, 32768, 77824)
    # one bitmap, of an old diskdump: too small for two
    assert places(made(Abi("<", 64), bitmap_blocks=8), 262108) == Places(12288, 12288, 32768, 45056)


@pytest.mark.parametrize(("pages", "blocks"), [(1, 2), (32768, 2), (32769, 4), (262108, 16)])
def test_each_bitmap_begins_at_a_block(pages: int, blocks: int) -> None:
    assert bitmap_blocks(pages, 4096) == blocks


def test_bits_run_from_the_lowest() -> None:
    bits = np.array([True, False, False, True] + [False] * 4 + [False, True] + [False] * 6)

    assert pack_bits(bits) == b"\x09\x02"
    assert unpack_bits(b"\x09\x02").tolist() == bits.tolist()


def test_a_descriptor_is_24_bytes_in_the_machine_s_order() -> None:
    row = np.frombuffer(struct.pack(">qIIQ", 810352, 54, 1, 0), dtype=desc_dtype(">"))[0]

    assert (row["offset"], row["size"], row["flags"], row["page_flags"]) == (810352, 54, 1, 0)
