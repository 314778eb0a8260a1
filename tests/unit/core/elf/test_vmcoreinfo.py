"""VMCOREINFO lines."""

from __future__ import annotations

import pytest

from tests.builders.dead_machines import CRASH_TIME, vmcoreinfo_text
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.errors import FormatError


def test_the_lines_of_a_kernel_are_understood() -> None:
    text = vmcoreinfo_text("6.1.0-56-cloud-amd64", page_size=65536)
    info = parse_vmcoreinfo(text)
    assert info.text == text
    assert info.release == "6.1.0-56-cloud-amd64"
    assert info.release_version == (6, 1)
    assert info.page_size == 65536
    assert info.crash_time == CRASH_TIME
    assert info.values["SYMBOL(_stext)"] == "ffffffff81000000"


def test_nothing_is_known_of_an_empty_note() -> None:
    info = parse_vmcoreinfo(b"")
    assert info.values == {}
    assert (info.release, info.release_version, info.crash_time) == (None, None, None)
    assert info.page_size == 4096


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    assert parse_vmcoreinfo(b"A=1\nA=2\n").values == {"A": "2"}


def test_a_value_may_hold_equals_signs_and_a_line_without_one_is_passed_over() -> None:
    assert parse_vmcoreinfo(b"noise\nA=b=c\n\n\xff=\xfe").values == {"A": "b=c", "\ufffd": "\ufffd"}


@pytest.mark.parametrize(
    "value", ["0", "1", "4097", "-4096", "2048", "524288", "x", "4096 ", "9" * 30]
)
def test_an_absurd_page_size_is_not_believed(value: str) -> None:
    assert parse_vmcoreinfo(f"PAGESIZE={value}\n".encode()).page_size == 4096


@pytest.mark.parametrize("size", [4096, 8192, 16384, 65536, 262144])
def test_every_page_size_that_a_kernel_has_is_believed(size: int) -> None:
    assert parse_vmcoreinfo(f"PAGESIZE={size}\n".encode()).page_size == size


@pytest.mark.parametrize("value", ["0", "-5", "", str(2**33), "now"])
def test_an_absurd_crash_time_is_not_believed(value: str) -> None:
    assert parse_vmcoreinfo(f"CRASHTIME={value}\n".encode()).crash_time is None


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.10.3", (6, 10)), ("2.6.18", (2, 6)), ("next", None), ("6", None), ("", None)],
)
def test_the_release_is_two_numbers_where_it_starts_with_them(
    release: str, version: tuple[int, int] | None
) -> None:
    assert parse_vmcoreinfo(f"OSRELEASE={release}\n".encode()).release_version == version


def test_a_release_with_more_digits_than_python_converts_is_no_version() -> None:
    text = b"OSRELEASE=" + b"9" * 5000 + b".1\n"
    assert parse_vmcoreinfo(text).release_version is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("48", 48),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551615", 2**64 - 1),
        ("0xffff800008000000", 0xFFFF800008000000),
        ("0", 0),
    ],
)
def test_a_number_is_decimal_or_hexadecimal(value: str, number: int) -> None:
    assert parse_vmcoreinfo(f"NUMBER(x)={value}\n".encode()).number("x") == number


@pytest.mark.parametrize(
    "value", ["", "-", "0x", "-0x1", "1.0", " 1", "ff", "0xFFFFFFFFFFFFFFFFF", "9" * 21, "1" * 5000]
)
def test_what_is_no_number_is_refused(value: str) -> None:
    info = parse_vmcoreinfo(f"NUMBER(x)={value}\n".encode())
    with pytest.raises(FormatError, match=r"^VMCOREINFO: NUMBER\(x\) is '"):
        info.number("x", default=5)


def test_a_number_that_is_not_told() -> None:
    info = parse_vmcoreinfo(b"SYMBOL(x)=1\n")
    assert info.number("x", default=5) == 5
    with pytest.raises(FormatError, match=r"^VMCOREINFO: NUMBER\(x\) is None, expected a number$"):
        info.number("x")


def test_a_length_is_decimal() -> None:
    assert parse_vmcoreinfo(b"LENGTH(mem_section)=2048\n").length("mem_section") == 2048
    for text in (b"", b"LENGTH(mem_section)=-1\n", b"LENGTH(mem_section)=0x10\n"):
        with pytest.raises(FormatError, match=r"^VMCOREINFO: LENGTH\(mem_section\) is "):
            parse_vmcoreinfo(text).length("mem_section")
