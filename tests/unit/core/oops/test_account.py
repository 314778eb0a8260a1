"""Which lines of a log are of one report."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import STACK, stamped, title_of
from vmcorefs.core.oops.account import take_account
from vmcorefs.core.oops.title import read_title

KASAN = f"""\
BUG: KASAN: slab-use-after-free in memcpy+0x12/0x34
Read of size 8 at addr ffff888012345678 by task frob/7
{STACK}"""
WARNING = "WARNING: CPU: 1 PID: 8 at drivers/other.c:12 other_check+0x1/0x2\n"
OTHER = "Call Trace:\n other_write+0x1/0x2\n"


def interleaved(*logs: str) -> str:
    """Lines of several who print at once, in turn."""
    lines = [log.splitlines(keepends=True) for log in logs]
    longest = max(map(len, lines))
    return "".join(each[i] for i in range(longest) for each in lines if i < len(each))


def read(log: str) -> str:
    found = read_title(log.encode())
    return found.title if found else ""


def test_lines_of_several_who_print_at_once_are_told_apart() -> None:
    log = interleaved(stamped(KASAN, "T7"), stamped(OTHER * 3, "T8"), stamped(OTHER, "C1"))
    assert read(log) == "KASAN: slab-use-after-free Read in frob_write"


def test_another_report_does_not_end_one_whose_printer_is_known() -> None:
    head, _, rest = stamped(KASAN, "T7").partition("\n")
    log = f"{head}\n{stamped(WARNING, 'T8')}{rest}"
    assert read(log) == "KASAN: slab-use-after-free Read in frob_write"


def test_another_report_ends_one_whose_printer_is_not_known() -> None:
    lines = stamped(KASAN).splitlines(keepends=True)
    log = "".join(lines[:3]) + stamped(WARNING + OTHER) + "".join(lines[3:])
    found = read_title(log.encode())
    assert found is not None
    assert found.title == "KASAN: slab-use-after-free Read in corrupted"
    assert found.mangled


@pytest.mark.parametrize(
    "words", ["FAULT_INJECTION: forcing a failure.", "frob: vmalloc: allocation failure: 4096"]
)
def test_a_stack_of_another_matter_is_not_taken(words: str) -> None:
    lines = stamped(KASAN).splitlines(keepends=True)
    log = "".join(lines[:2]) + stamped(words + "\n" + OTHER) + "".join(lines[2:])
    assert read(log) == "KASAN: slab-use-after-free Read in corrupted"


def test_a_stack_that_is_interrupted_by_an_injected_fault_is_mangled() -> None:
    text = KASAN.replace(" frob_write", " should_failslab+0x1/0x2\n frob_write")
    found = title_of(text)
    assert found.mangled


def test_the_stacks_of_other_cpus_belong_to_the_report_that_asked_for_them() -> None:
    own = stamped("INFO: task frob:7 blocked for more than 143 seconds.\n" + STACK, "T1")
    asked = stamped("Sending NMI from CPU 0 to CPUs 1:\n", "T1") + stamped(OTHER, "C1")
    before = stamped(OTHER, "C1")
    account = take_account(before + own + asked)
    assert account is not None
    assert account.lines.count("Call Trace:") == 2
    account = take_account(own + stamped(OTHER, "C1"))
    assert account is not None
    assert account.lines.count("Call Trace:") == 1


def test_what_a_panic_tells_again_is_left_out() -> None:
    text = KASAN + "RAX: 0\n" * 20 + "Kernel panic - not syncing: panic_on_warn set ...\n" + OTHER
    account = take_account(stamped(text, "T7"))
    assert account is not None
    assert not any("other_write" in line for line in account.lines)


def test_a_panic_right_behind_the_head_has_the_stack() -> None:
    text = f"{WARNING}Kernel panic - not syncing: panic_on_warn set ...\n{STACK}"
    assert title_of(text).title == "WARNING in frob_write"


def test_a_line_that_is_printed_again_is_read_when_it_is_whole() -> None:
    head, _, rest = stamped(KASAN, "T7").partition("\n")
    log = f"{head[:30]}\n** replaying previous printk message **\n{head}\n{rest}"
    assert read(log) == "KASAN: slab-use-after-free Read in frob_write"


@pytest.mark.parametrize(
    "line",
    [
        "INFO: lockdep is turned off.",
        "perf: INFO: interrupt took too long (2503 > 2500), lowering",
        "ODEBUG: Out of memory. ODEBUG: disabled",
        "frob_DEBUG: all well",
        "WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "warning: `FROB' USES WIRELESS EXTENSIONS, WARNING: ...",
        "EXT4-fs (sda1): WARNING: frob",
        "traps: a[7] general protection fault ip:1 sp:2 error:0 in a[1+2]",
        "usb 1-1: new high-speed USB device number 2 using dummy_hcd",
    ],
)
def test_what_reports_no_crash(line: str) -> None:
    assert read_title(stamped(line).encode()) is None


def test_a_head_in_front_of_the_time_is_found() -> None:
    assert read("BUG: frob login: [    1.0] nothing\n") == "BUG: frob login: [ NUM.NUM] nothing"


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("Nov 30 06:06:29 host kernel: ", "\n"),
        ("Nov 30 06:06:29 host kernel: [   12.345678] ", "\n"),
        ("2026-11-30T06:06:29.123456+00:00 host kernel: [   12.345678][    T7] ", "\n"),
        ("[Mon Nov 30 06:06:29 2026] ", "\n"),
        ("<4>[   12.345678] ", "\r\n"),
        ("", "\r\r\n"),
    ],
)
def test_wherever_the_log_was_kept(prefix: str, end: str) -> None:
    other = "Nov 30 06:06:29 host sshd[7]: BUG of mine" if prefix.startswith("Nov") else ""
    lines = [f"{prefix}{line}" for line in KASAN.splitlines()]
    found = read_title(end.join([other, *lines, other, ""]).encode())
    assert found is not None
    assert found.title == "KASAN: slab-use-after-free Read in frob_write"
    assert found.mangled == ""
    whole = tuple(KASAN.splitlines())
    assert found.lines[: len(whole)] == whole
