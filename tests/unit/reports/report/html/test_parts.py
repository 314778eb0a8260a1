"""What the parts of a page say."""

from __future__ import annotations

import re

import pytest

from tests.unit.reports.report.test_text import REPORT
from vmcorefs.reports.report.html.log import show_log
from vmcorefs.reports.report.html.stacks import format_numbers, show_cpus
from vmcorefs.reports.report.html.tasks import format_seconds, list_threads
from vmcorefs.reports.report.schema import Cpu, Frame, Stack, Task, Thread


def _text(html: str) -> str:
    return re.sub(r"<[^>]*>", "|", html)


def test_the_log_has_its_warnings_marked() -> None:
    html = show_log(b"[ 1.0] fine\n[ 2.0] WARNING: <x>\n[ 3.0] Kernel panic - not syncing: y\n")
    assert re.findall("<mark>(.*?)</mark>", html) == [
        "[ 2.0] WARNING: &lt;x&gt;",
        "[ 3.0] Kernel panic - not syncing: y",
    ]
    assert "not shown" not in html


def test_of_a_long_log_the_end_is_shown() -> None:
    html = show_log(b"".join(b"line %d\n" % number for number in range(10_000)))
    assert "2000 lines before these are not shown." in html
    assert "line 1999\n" not in html
    assert html.index("line 2000\n") < html.index("line 9999\n")


def test_a_log_of_one_line_without_end_is_cut() -> None:
    assert len(show_log(b"A" * (8 << 20))) < 2 << 20


def test_cpus_that_did_the_same_share_a_card() -> None:
    idle = Stack([Frame(5, "halt", 5)])
    cpus = [
        Cpu(n, Task(0, 0, f"swapper/{n}", "R"), n == 2, 0, idle, [], None) for n in (0, 1, 2, 3, 5)
    ]
    cards = [_text(card) for card in show_cpus(cpus).split("<article")[1:]]
    assert len(cards) == 2
    assert "CPU 2" in cards[0]  # the one that panicked comes first
    assert "panicked" in cards[0]
    assert "CPUs 0-1, 3, 5" in cards[1]
    assert "idle" in cards[1]


def test_a_card_says_what_waits_for_its_cpu() -> None:
    said = _text(show_cpus(REPORT.cpus))
    assert "|waiting for it: pid 30 (late), 2.5 s, pid 7 (sh)|" in said
    assert "|has not run its watchdog for 7 s|" in said


def test_of_very_many_tasks_those_that_do_not_sleep_are_listed() -> None:
    threads = [Thread(pid, pid, "a", "S", None, None) for pid in range(1, 21_000)]
    html = list_threads([*threads, Thread(70_000, 70_000, "last", "D", 3, 3600.0)])
    rows = re.findall("<tr class.*?</tr>", html)
    assert len(rows) == 20_000
    assert _text(rows[0]).replace("|", " ").split() == [
        *("70000", "70000", "last", "blocked", "3", "1", "h", "0", "min", "ago"),
    ]
    assert "1000 more are in what --json prints." in html


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (200, "3 min 20 s"),
        (18_240, "5 h 4 min"),
        (1e6, "11 d 13 h"),
    ],
)
def test_times(seconds: float, said: str) -> None:
    assert format_seconds(seconds) == said


def test_numbers() -> None:
    assert format_numbers([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert format_numbers([]) == ""
