"""What stands in front of a message, and whose it is."""

from __future__ import annotations

import pytest

from vmcorefs.core.oops.lines import MAX_LINE, STAMPED, UNSTAMPED, Line, iter_lines, read_line


@pytest.mark.parametrize(
    ("line", "text", "speaker"),
    [
        ("[    1.234567] frob: up", "frob: up", STAMPED),
        ("[12345.678901][ T4926] frob: up", "frob: up", "T4926"),
        ("[    1.234567][    C1] frob: up", "frob: up", "C1"),
        ("<4>[    1.234567] frob: up", "frob: up", STAMPED),
        ("** 12 printk messages dropped ** [    1.234567] frob: up", "frob: up", STAMPED),
        ("Debian GNU/Linux 12 frob ttyS0 login: [    1.2] frob: up", "frob: up", STAMPED),
        ("Nov 30 06:06:29 host kernel: [    1.234567] frob: up", "frob: up", STAMPED),
        ("2026-11-30T06:06:29.123456+00:00 host kernel: [    1.2] frob: up", "frob: up", STAMPED),
        ("Nov 30 06:06:29 host kernel: frob: up", "frob: up", STAMPED),
        ("Nov 30 06:06:29 host kernel:  frob_write+0x1/0x2", " frob_write+0x1/0x2", STAMPED),
        ("Nov 30 06:06:29 host kernel: [    1.2][   T12] frob: up", "frob: up", "T12"),
        ("Nov 30 06:06:29 host sshd[7]: frob", "Nov 30 06:06:29 host sshd[7]: frob", UNSTAMPED),
        ("\x1b[0m\x1b[1;31m[    1.2][    C0] frob: up", "frob: up", "C0"),
        ("[Mon Nov 30 06:06:29 2026] frob: up", "frob: up", STAMPED),
        ("[    1.234567]  frob_write+0x1/0x2", " frob_write+0x1/0x2", STAMPED),
        ("frob: up", "frob: up", UNSTAMPED),
        ("[frob] up", "[frob] up", UNSTAMPED),
        ("", "", UNSTAMPED),
    ],
)
def test_a_line(line: str, text: str, speaker: str) -> None:
    assert read_line(line) == Line(text, speaker, doubtful=False)


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        (" ? frob_write+0x1/0x2", True),
        (" [<ffffffff81234567>] ? frob_write+0x1/0x2", True),
        ("[c0000000] [c0000001] frob_write+0x1/0x2 (unreliable)", True),
        (" <EOI>  ? frob_write+0x1/0x2", False),
        (" frob_write+0x1/0x2", False),
    ],
)
def test_what_the_unwinder_did_not_trust(text: str, doubtful: bool) -> None:
    assert read_line(f"[    1.234567][    T1] {text}").doubtful is doubtful


def test_lines_of_a_log() -> None:
    log = "first\nsecond\r\n\nla"
    assert list(iter_lines(log, 0)) == [(0, "first"), (6, "second"), (14, ""), (15, "la")]
    assert next(iter_lines(log, 6)) == (6, "second")


def test_long_lines_are_cut() -> None:
    assert list(iter_lines("a" * (MAX_LINE + 5) + "\nb", 0)) == [
        (0, "a" * MAX_LINE),
        (MAX_LINE + 6, "b"),
    ]


def test_what_a_console_prints_again_is_read_once() -> None:
    log = "[ 1.0] BUG: fr\n** replaying previous printk message **\n[ 1.0] BUG: frob\n"
    assert [line for _, line in iter_lines(log, 0)] == [
        "** replaying previous printk message **",
        "[ 1.0] BUG: frob",
    ]
