"""The kernel's log in its three forms."""

from __future__ import annotations

import struct

import pytest

from tests.builders.logs import (
    DESCS,
    INFOS,
    PRB,
    Record,
    make_plain,
    make_ring,
    make_structured,
    pack_record,
)
from tests.matching import exactly
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.structures.printk import read_log
from vmcorefs.errors import FaultError, FormatError


def test_records_of_the_ring_are_printed_with_their_time() -> None:
    log = make_ring([Record(b"Linux version 6.1"), Record(b"second", 1_234_567_890)])
    assert read_log(log.info, log.memory) == (
        b"[    0.000000] Linux version 6.1\n[    1.234567] second\n"
    )


def test_a_record_at_the_end_of_the_ring_is_found_at_its_start() -> None:
    log = make_ring([Record(b"x" * 100), Record(b"y" * 100), Record(b"z" * 20), Record(b"last")])
    assert read_log(log.info, log.memory).splitlines()[-2:] == [
        b"[    0.000000] " + b"z" * 20,
        b"[    0.000000] last",
    ]


def test_only_the_newest_records_are_left_of_a_full_ring() -> None:
    records = [Record(b"%d" % number) for number in range(40)]
    log = make_ring(records, size_bits=12)
    lines = read_log(log.info, log.memory).splitlines()
    assert lines == [b"[    0.000000] %d" % number for number in range(24, 40)]


@pytest.mark.parametrize("state", [0, 3])
def test_a_record_that_is_being_written_or_reused_is_left_out(state: int) -> None:
    log = make_ring([Record(b"one"), Record(b"half", state=state), Record(b"three", state=1)])
    assert read_log(log.info, log.memory) == b"[    0.000000] one\n[    0.000000] three\n"


def test_ids_wrap_in_62_bits() -> None:
    log = make_ring([Record(b"before"), Record(b"after")], first_id=(1 << 62) - 1)
    assert read_log(log.info, log.memory).splitlines() == [
        b"[    0.000000] before",
        b"[    0.000000] after",
    ]


def test_a_record_with_no_data_is_an_empty_line() -> None:
    log = make_ring([Record(b"gone")])
    descs = bytearray(log.blocks[0xFFFF_1000])
    struct.pack_into("<QQ", descs, 8, 1, 1)  # begin and next: NO_LPOS
    log.blocks[0xFFFF_1000] = bytes(descs)
    assert read_log(log.info, log.memory) == b"[    0.000000] \n"


def test_what_is_no_printable_character_is_escaped() -> None:
    log = make_ring([Record(b"a\x00b\x1b\xffc\td")])
    assert read_log(log.info, log.memory) == b"[    0.000000] a\\x00b\\x1b\\xffc\td\n"


def test_a_ring_of_absurd_size_is_refused_before_it_is_read() -> None:
    log = make_ring([Record(b"one")])
    block = bytearray(log.blocks[PRB])
    struct.pack_into("<I", block, 16, 40)
    log.blocks[PRB] = bytes(block)
    with pytest.raises(FormatError, match=r"^the log's descriptors: 26388279066624 bytes, exp"):
        read_log(log.info, log.memory)


def test_a_ring_that_memory_does_not_hold_is_a_fault() -> None:
    log = make_ring([Record(b"one")])
    del log.blocks[0xFFFF_8000]
    with pytest.raises(FaultError):
        read_log(log.info, log.memory)


def test_a_key_that_vmcoreinfo_lacks_is_named() -> None:
    log = make_ring([Record(b"one")])
    info = parse_vmcoreinfo(log.info.text.replace(b"SIZE(prb_desc)=24", b"SIZE(prb_desc)=x"))
    with pytest.raises(
        FormatError, match=r"^VMCOREINFO: SIZE\(prb_desc\) is 'x', expected a number$"
    ):
        read_log(info, log.memory)


def test_structured_records_go_on_at_the_start_of_the_buffer() -> None:
    newer, older = pack_record(2_000_000_000, b"newer"), pack_record(1_000_000_000, b"older")
    buffer = newer.ljust(64, b"\xee") + older + bytes(16)
    log = make_structured(buffer, 64, len(newer))
    assert read_log(log.info, log.memory) == b"[    1.000000] older\n[    2.000000] newer\n"


def test_a_structured_log_that_never_ends_is_refused() -> None:
    buffer = pack_record(0, b"a") + pack_record(0, b"b") + bytes(16)
    log = make_structured(buffer, 0, 4)
    with pytest.raises(FormatError, match=r"^the log's records go round log_buf forever$"):
        read_log(log.info, log.memory)


def test_a_structured_record_behind_the_buffer_is_refused() -> None:
    log = make_structured(bytes(64), 60, 8)
    with pytest.raises(FormatError, match=r"^the log's record at 0x3c ends past log_buf, 0x40$"):
        read_log(log.info, log.memory)


@pytest.mark.parametrize(
    ("end", "kept", "text"),
    [(4, 4, b"abcd"), (8, 8, b"abcdefgh"), (10, 8, b"cdefghab"), (4, 100, b"efghabcd")],
)
def test_plain_characters_are_taken_up_to_the_newest(end: int, kept: int, text: bytes) -> None:
    log = make_plain(b"abcdefgh", end, kept)
    assert read_log(log.info, log.memory) == text


def test_a_plain_log_whose_size_is_no_power_of_two_is_refused() -> None:
    log = make_plain(b"abcdef", 4, 4)
    with pytest.raises(FormatError, match=r"^log_buf_len is 6, expected a power of two$"):
        read_log(log.info, log.memory)


def test_records_that_share_their_text_are_refused_before_it_fills_memory() -> None:
    log = make_ring([Record(b"a" * 40)] * 4, count_bits=12, size_bits=8)
    log.blocks[DESCS] = b"".join(struct.pack("<QQQ", 2 << 62 | n, 0, 0xF8) for n in range(4096))
    log.blocks[INFOS] = (bytes(16) + b"\xff\xff" + bytes(70)) * 4096
    log.blocks[PRB] = log.blocks[PRB][:40] + struct.pack("<QQ", 4095, 0) + log.blocks[PRB][56:]
    with pytest.raises(
        FormatError, match=exactly("the log's records overlap: more text than the 256 bytes")
    ):
        read_log(log.info, log.memory)


def test_a_structured_record_shorter_than_its_header_is_refused() -> None:
    record = struct.pack("<QHHHBB", 0, 8, 0, 0, 0, 0)
    log = make_structured(record * 4, 0, 48)
    with pytest.raises(FormatError, match=exactly("the log's record at 0x0 has 8 bytes")):
        read_log(log.info, log.memory)
