"""Addresses and sizes, as people write them and as messages print them."""

from __future__ import annotations

import pytest

from tests.matching import exactly
from vmcorefs.core.space.units import (
    MAX_ADDRESS,
    align_up,
    counted,
    format_range,
    format_size,
    parse_range,
    parse_size,
)
from vmcorefs.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "up"), [(0, 0), (1, 4096), (4095, 4096), (4096, 4096), (0x9FC00, 0xA0000)]
)
def test_aligning_rounds_up_to_a_page_and_leaves_multiples_alone(value: int, up: int) -> None:
    assert align_up(value, 4096) == up


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("0x1000", 0x1000),
        ("0X9fC00", 0x9FC00),
        ("655360", 655360),
        ("010", 10),
        ("640K", 640 << 10),
        ("640k", 640 << 10),
        ("16MiB", 16 << 20),
        ("4G", 4 << 30),
        ("4GB", 4 << 30),
        ("24T", 24 << 40),
        ("1P", 1 << 50),
        ("0x10K", 16 << 10),
        (" 4096 ", 4096),
        ("0x4000000000000000", MAX_ADDRESS),
    ],
)
def test_a_size_is_hex_or_decimal_with_a_binary_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.5G", "0x", "4 G", "0xg", "1GG", "1E", "4Gi b", "1\u212a", "\u0661"]
)
def test_a_size_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(f"{text!r}: expected an address or a size, such as 0x100000, 640K or 4G"),
    ):
        parse_size(text)


@pytest.mark.parametrize("text", ["0x4000000000000001", "4097P", str(2**63), "9" * 19])
def test_a_size_above_the_highest_address_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError,
        match=exactly(f"{text!r}: above the highest supported address, 0x4000000000000000"),
    ):
        parse_size(text)


def test_a_size_with_more_digits_than_python_converts_is_refused_too() -> None:
    with pytest.raises(ConfigError):
        parse_size("9" * 5000)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0x1000-0x9fbff", (0x1000, 0x9FC00)),
        ("0-0", (0, 1)),
        ("0x1000+0x1000", (0x1000, 0x2000)),
        ("512M+256M", (512 << 20, 768 << 20)),
        (f"0-{MAX_ADDRESS - 1}", (0, MAX_ADDRESS)),
    ],
)
def test_a_range_has_an_inclusive_end_or_a_size(text: str, span: tuple[int, int]) -> None:
    assert parse_range(text) == span


@pytest.mark.parametrize("text", ["0x2000-0x1000", "0x1000+0", f"1+{MAX_ADDRESS}", "1-1023P+1"])
def test_an_empty_range_or_one_that_ends_too_high_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_range(text)


def test_the_message_for_an_empty_range_names_the_limit() -> None:
    with pytest.raises(
        ConfigError,
        match=exactly("'5+0': the range is empty or ends above 0x4000000000000000"),
    ):
        parse_range("5+0")


def test_a_range_without_an_end_is_refused_with_both_spellings() -> None:
    with pytest.raises(
        ConfigError,
        match=exactly("'4096': expected START-END (inclusive, as in /proc/iomem) or START+SIZE"),
    ):
        parse_range("4096")


def test_a_range_is_printed_half_open() -> None:
    assert format_range(0x1000, 0x9FC00) == "[0x1000, 0x9fc00)"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (0x9EC00, "635 KiB"),
        (1 << 30, "1 GiB"),
        (3 << 39, "1.5 TiB"),
        (1 << 61, "2048 PiB"),
    ],
)
def test_a_size_is_printed_in_the_largest_unit_that_it_fills(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("table",), "0 tables"),
        (1, ("table",), "1 table"),
        (2, ("table",), "2 tables"),
        (1, ("entry", "entries"), "1 entry"),
        (3, ("entry", "entries"), "3 entries"),
    ],
)
def test_one_thing_is_not_said_to_be_several(count: int, words: tuple[str, ...], text: str) -> None:
    assert counted(count, *words) == text
