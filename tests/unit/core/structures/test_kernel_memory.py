"""Strings and numbers in a kernel's memory."""

from __future__ import annotations

import pytest

from tests.builders.kernels import virtual
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FaultError

PAGE = 0xFFFF888000001000


def test_numbers_of_either_order() -> None:
    read = virtual({PAGE: b"\x01\x02\x03\x04\x05\x06\x07\x08"}).read
    assert KernelMemory(read, "<", 8).pointer(PAGE) == 0x0807060504030201
    assert KernelMemory(read, ">", 4).pointer(PAGE) == 0x01020304
    assert KernelMemory(read, ">", 4).integer(PAGE + 1, 2) == 0x0203


@pytest.mark.parametrize(
    ("at", "limit", "expected"),
    [
        (0, 16, b"name"),
        (1, 16, b"ame"),
        (4, 16, b""),
        (0, 4, b"name"),
        (0, 3, b"nam"),
        (5, 16, b"other"),
    ],
)
def test_a_string(at: int, limit: int, expected: bytes) -> None:
    memory = virtual({PAGE: b"name\0other\0".ljust(4096, b"\xee")})
    assert memory.string(PAGE + at, limit) == expected


def test_a_string_that_goes_on_in_the_next_page() -> None:
    memory = virtual({PAGE: bytes(4090) + b"abcdef" + b"gh\0".ljust(4096, b"\xee")})
    assert memory.string(PAGE + 4090, 256) == b"abcdefgh"
    assert memory.string(PAGE + 4090, 7) == b"abcdefg"


def test_a_string_that_ends_with_the_last_page_that_is_mapped() -> None:
    memory = virtual({PAGE: bytes(4090) + b"abcde\0"})
    assert memory.string(PAGE + 4090, 256) == b"abcde"


def test_a_string_that_runs_out_of_memory() -> None:
    memory = virtual({PAGE: bytes(4090) + b"abcdef"})
    assert memory.string(PAGE + 4090, 6) == b"abcdef"
    with pytest.raises(FaultError):
        memory.string(PAGE + 4090, 7)
