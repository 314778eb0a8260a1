"""libfuse's answers with what it does not know of (include/uapi/linux/fuse.h)."""

from __future__ import annotations

import struct

import pytest

from vmcorefs.fuse.wire import accept_init, forget_name, pass_through

KERNEL_FLAGS2 = 0x5FD
"""What Linux 6.18 offers."""


def init_request(flags: int, flags2: int) -> memoryview:
    header = struct.pack("=IIQQIIII", 104, 26, 2, 0, 0, 0, 0, 0)
    return memoryview(header + struct.pack("=IIIII", 7, 45, 131072, flags, flags2) + bytes(44))


def init_answer(flags: int) -> bytearray:
    body = struct.pack("=IIIIHHIIHHII", 7, 38, 131072, flags, 12, 9, 1 << 20, 1, 256, 0, 0, 0)
    return bytearray(struct.pack("=IiQ", 80, 0, 2) + body.ljust(64, b"\0"))


def test_passthrough_is_asked_for_where_the_kernel_offers_it() -> None:
    answer = init_answer(1)
    assert accept_init(init_request(0x73FFFFFB, KERNEL_FLAGS2), answer, 80, 120)
    fields = struct.unpack_from("=IIIIHHIIHHIIH", answer, 16)
    assert fields[3] == 1 | 1 << 30
    assert fields[4:6] == (64, 48)
    assert fields[6] == 4096
    assert fields[10] == 1 << 5 | 1 << 4 | 1 << 10
    assert fields[11:] == (2, 120)
    assert answer[:16] == init_answer(1)[:16]


@pytest.mark.parametrize(
    ("flags", "flags2"), [(0x73FFFFFB, 0), (0x33FFFFFB, KERNEL_FLAGS2)], ids=["old", "no words"]
)
def test_an_older_kernel_is_asked_for_nothing_new(flags: int, flags2: int) -> None:
    answer = init_answer(1)
    assert not accept_init(init_request(flags, flags2), answer, 80, 120)
    fields = struct.unpack_from("=IIIIHHIIHHIIH", answer, 16)
    assert (fields[3], fields[6], *fields[10:]) == (1, 4096, 0, 0, 0)


def test_a_kernel_that_may_wait_for_ever_is_asked_for_no_timeout() -> None:
    answer = init_answer(1)
    assert accept_init(init_request(0x73FFFFFB, KERNEL_FLAGS2), answer, 80, 0)
    assert struct.unpack_from("=IIIIHHIIHHIIH", answer, 16)[10:] == (1 << 5 | 1 << 4, 2, 0)


def test_a_notice_to_forget_a_name_is_a_header_the_parent_and_the_name() -> None:
    assert forget_name(7, "oldmem") == struct.pack("=IiQQII", 39, 3, 0, 7, 6, 0) + b"oldmem\0"


def test_an_answer_to_open_names_the_file_that_reads_go_to() -> None:
    answer = bytearray(struct.pack("=IiQQIi", 32, 0, 9, 5, 1 << 1, 0))
    pass_through(answer, 77)
    assert struct.unpack("=IiQQIi", answer) == (32, 0, 9, 5, 1 << 7 | 1 << 5, 77)


def test_a_file_that_is_opened_for_direct_io_stays_with_the_daemon() -> None:
    answer = bytearray(struct.pack("=IiQQIi", 32, 0, 9, 5, 1, 0))
    pass_through(answer, 77)
    assert struct.unpack("=IiQQIi", answer) == (32, 0, 9, 5, 1, 0)
