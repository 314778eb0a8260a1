"""The kernel's log in its three forms."""

from __future__ import annotations

import struct

import pytest

from tests.builders.logs import (
    DESCS,
    INFOS,
    LOG_BUF,
    PRB,
    TEXT,
    Log,
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

PAGE = 4096


def test_records_of_the_ring_are_printed_with_their_time() -> None:
    log = make_ring([Record(b"Linux version 6.1"), Record(b"second", 1_234_567_890)])
    assert read_log(log.info, log.memory).text == (
        b"[    0.000000] Linux version 6.1\n[    1.234567] second\n"
    )


def test_a_record_at_the_end_of_the_ring_is_found_at_its_start() -> None:
    log = make_ring([Record(b"x" * 100), Record(b"y" * 100), Record(b"z" * 20), Record(b"last")])
    assert read_log(log.info, log.memory).text.splitlines()[-2:] == [
        b"[    0.000000] " + b"z" * 20,
        b"[    0.000000] last",
    ]


def test_only_the_newest_records_are_left_of_a_full_ring() -> None:
    records = [Record(b"%d" % number) for number in range(40)]
    log = make_ring(records, size_bits=12)
    lines = read_log(log.info, log.memory).text.splitlines()
    assert lines == [b"[    0.000000] %d" % number for number in range(24, 40)]


@pytest.mark.parametrize("state", [0, 3])
def test_a_record_that_is_being_written_or_reused_is_left_out(state: int) -> None:
    log = make_ring([Record(b"one"), Record(b"half", state=state), Record(b"three", state=1)])
    assert read_log(log.info, log.memory).text == b"[    0.000000] one\n[    0.000000] three\n"


def test_ids_wrap_in_62_bits() -> None:
    log = make_ring([Record(b"before"), Record(b"after")], first_id=(1 << 62) - 1)
    assert read_log(log.info, log.memory).text.splitlines() == [
        b"[    0.000000] before",
        b"[    0.000000] after",
    ]


def test_a_record_with_no_data_is_an_empty_line() -> None:
    log = make_ring([Record(b"gone")])
    descs = bytearray(log.blocks[0xFFFF_1000])
    struct.pack_into("<QQ", descs, 8, 1, 1)  # begin and next: NO_LPOS
    log.blocks[0xFFFF_1000] = bytes(descs)
    assert read_log(log.info, log.memory).text == b"[    0.000000] \n"


def test_what_is_no_printable_character_is_escaped() -> None:
    log = make_ring([Record(b"a\x00b\x1b\xffc\td")])
    assert read_log(log.info, log.memory).text == b"[    0.000000] a\\x00b\\x1b\\xffc\td\n"


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
    assert read_log(log.info, log.memory).text == b"[    1.000000] older\n[    2.000000] newer\n"


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
    assert read_log(log.info, log.memory).text == text


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


def _long_ring(size: int = 40) -> Log:
    """200 records of 6 pages of descriptors and text; each text begins with its number."""
    records = [Record(b"%03d" % n + b"." * (size - 3), n * 1_000_000_000) for n in range(200)]
    return make_ring(records, count_bits=8, size_bits=14)


def test_what_cannot_be_read_of_a_records_text_is_told_in_its_place() -> None:
    log = _long_ring()
    whole = read_log(log.info, log.memory).text.splitlines()
    log.bad.append((TEXT + PAGE, TEXT + 2 * PAGE))
    found = read_log(log.info, log.memory)
    lines = found.text.splitlines()
    # each record takes 48 bytes: that at 4080 has the first 8 of its text before the bad page
    assert lines[:85] == whole[:85]
    assert lines[85] == b"[   85.000000] 085.....[32 bytes of the log could not be read]"
    assert lines[86] == b"[   86.000000] [40 bytes of the log could not be read]"
    # that at 8160 ends with it, and so do all but 24 bytes of the next one's text
    assert lines[170] == b"[  170.000000] [24 bytes of the log could not be read]................"
    assert lines[171:] == whole[171:]
    assert found.lost == PAGE


@pytest.mark.parametrize(
    ("page", "first", "end"),
    [
        (DESCS, 0, 171),  # of 24 bytes each
        (INFOS + PAGE, 46, 94),  # of 88
    ],
)
def test_records_that_cannot_be_read_are_counted_in_their_place(
    page: int, first: int, end: int
) -> None:
    log = _long_ring()
    whole = read_log(log.info, log.memory).text.splitlines()
    log.bad.append((page, page + PAGE))
    told = b"[%d records of the log could not be read]" % (end - first)
    assert read_log(log.info, log.memory).text.splitlines() == [*whole[:first], told, *whole[end:]]


def test_a_ring_of_which_nothing_can_be_read_is_a_fault() -> None:
    log = _long_ring()
    log.bad.append((TEXT, TEXT + 4 * PAGE))
    with pytest.raises(FaultError):
        read_log(log.info, log.memory)


def _long_buffer(count: int = 400) -> list[bytes]:
    """Records of 48 bytes; what stands in the text of each looks like the end of the log."""
    return [pack_record(n * 1_000_000_000, b"%03d" % n + bytes(29)) for n in range(count)]


def _lines(log: Log) -> list[bytes]:
    return read_log(log.info, log.memory).text.replace(b"\\x00", b"").splitlines()


def test_structured_records_are_found_again_behind_a_bad_page() -> None:
    buffer = b"".join(_long_buffer()).ljust(5 * PAGE, b"\0")
    log = make_structured(buffer, 0, 400 * 48)
    whole = _lines(log)
    log.bad.append((LOG_BUF + PAGE, LOG_BUF + 2 * PAGE))
    lines = _lines(log)
    # 4080 to 4128: its header can be read, and not all of its text is lost
    assert lines[:85] == whole[:85]
    assert lines[85] == b"[   85.000000] [32 bytes of the log could not be read]"
    # from 4128 on to the first record behind 8192, which is at 8208
    assert lines[86] == b"[4080 bytes of the log could not be read]"
    assert lines[87:] == whole[171:]
    assert read_log(log.info, log.memory).lost == PAGE


def test_structured_records_are_found_again_behind_each_of_several_bad_pages() -> None:
    log = make_structured(b"".join(_long_buffer()).ljust(5 * PAGE, b"\0"), 0, 400 * 48)
    whole = _lines(log)
    for page in (1, 3):
        log.bad.append((LOG_BUF + page * PAGE, LOG_BUF + (page + 1) * PAGE))
    lines = _lines(log)
    assert lines[87:171] == whole[171:255]
    assert [line for line in lines if b"could not" in line][-1] == (
        b"[4128 bytes of the log could not be read]"
    )
    assert lines[-(400 - 342) :] == whole[342:]


def test_structured_records_that_went_round_are_found_behind_a_bad_page() -> None:
    records = _long_buffer()
    newer, older = b"".join(records[300:]), b"".join(records[:300])
    buffer = newer.ljust(6000, b"\0") + older + bytes(16)
    log = make_structured(buffer, 6000, len(newer))
    whole = _lines(log)
    assert len(whole) == 400
    bad = LOG_BUF // PAGE * PAGE + 3 * PAGE
    log.bad.append((bad, bad + PAGE))
    lines = _lines(log)
    assert [line for line in whole if line not in lines] == whole[131:217]
    # the end of the buffer is lost: the newer ones are at its start
    log.bad[:] = [(LOG_BUF + 4 * PAGE, LOG_BUF + 6 * PAGE)]
    lines = _lines(log)
    assert lines[-100:] == whole[-100:]
    assert sum(b"could not be read" in line for line in lines) <= 2


def test_a_structured_log_whose_end_cannot_be_read_ends_with_how_much_that_is() -> None:
    log = make_structured(b"".join(_long_buffer()).ljust(5 * PAGE, b"\0"), 0, 400 * 48)
    log.bad.append((LOG_BUF + 4 * PAGE, LOG_BUF + 5 * PAGE))
    whole = _lines(log)
    assert whole[-1] == b"[%d bytes of the log could not be read]" % (400 * 48 - 342 * 48)


@pytest.mark.parametrize(("end", "kept"), [(3 * PAGE, 3 * PAGE), (4 * PAGE + 100, 4 * PAGE)])
def test_plain_characters_that_cannot_be_read_are_told_in_their_place(end: int, kept: int) -> None:
    log = make_plain(b"".join(b"%07d\n" % n for n in range(2048)), end, kept)
    whole = read_log(log.info, log.memory).text
    log.bad.append((LOG_BUF + PAGE, LOG_BUF + 2 * PAGE))
    at = (PAGE - (end - kept)) % (4 * PAGE)
    told = b"[4096 bytes of the log could not be read]"
    assert read_log(log.info, log.memory).text == whole[:at] + told + whole[at + PAGE :]
