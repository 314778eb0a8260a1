"""What is printed cannot act on a terminal."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest

from vmcorefs.system.terminal import print_json, print_lines, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("/srv/a b/ram", "/srv/a b/ram"),
        ("größe 日本 ± \\x1b", "größe 日本 ± \\x1b"),
        ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
        ("\x1b[2K\x07\x7f", "\\x1b[2K\\x07\\x7f"),
        ("\x80\x9b1m\x85", "\\x80\\x9b1m\\x85"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u202aa\u202e\u2066b\u2069\u200f", "\\u202aa\\u202e\\u2066b\\u2069\\u200f"),
        ("\u200b\ufeff\u00ad\U000e0041", "\\u200b\\ufeff\\xad\\U000e0041"),
        ("\u00a0\u3000", "\\xa0\\u3000"),
        (b"caf\xe9\x80\xff".decode("utf-8", "surrogateescape"), "caf\\xe9\\x80\\xff"),
        ("\ud800\udfff", "\\ud800\\udfff"),
    ],
)
def test_what_does_not_print_as_itself_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert printable(expected) == expected


def test_no_character_that_could_act_is_left() -> None:
    text = "".join(map(chr, range(0x30000)))
    categories = {unicodedata.category(character) for character in printable(text)}
    assert categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} == set()


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines("one\ntwo", "three")
    print_lines("\rfour", err=True)
    printed = capsys.readouterr()
    assert printed.out == "one\\ntwo\nthree\n"
    assert printed.err == "\\rfour\n"


def test_a_terminal_that_lacks_a_character_shows_its_escape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    print_lines("5 ± 1")
    assert stream.buffer.getvalue() == b"5 \\xb1 1\n"


def test_json_is_ascii_and_gives_back_what_was_put_in(capsys: pytest.CaptureFixture[str]) -> None:
    report = {"na\x7fme": "\x1b[2K\r\n\x7f\x9b\u202e\udce9 ± \\"}
    print_json(report)
    printed = capsys.readouterr().out
    assert all(character == "\n" or " " <= character <= "~" for character in printed)
    assert json.loads(printed) == report
