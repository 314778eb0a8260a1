"""The logs of syzkaller's own tests, with what its maintainers expect of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from vmcorefs.core.oops.title import CrashTitle, read_title

REPORTS = Path(__file__).parents[3] / "data" / "syzkaller" / "report"

DIFFERENT: dict[str, str] = {}
"""Logs whose title or class differs from what is expected, each with the reason; none now."""


class Expected(NamedTuple):
    title: str
    alternatives: tuple[str, ...]
    fault: str
    mangled: bool
    function: str


class Case(NamedTuple):
    name: str
    log: bytes
    expected: Expected
    found: CrashTitle


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    found = []
    for path in sorted(REPORTS.iterdir(), key=lambda path: int(path.name)):
        head, log = split(path.read_bytes())
        found.append(Case(path.name, log, expect(head), read_title(log) or CrashTitle()))
    assert len(found) == 373
    return found


def split(data: bytes) -> tuple[str, bytes]:
    head, _, log = data.partition(b"\n\n") if not data.startswith(b"\n") else (b"", b"", data[1:])
    return head.decode(), log.partition(b"\n\nREPORT:\n")[0]


def expect(head: str) -> Expected:
    lines = [line.partition(":") for line in head.splitlines() if not line.startswith("#")]
    fields = {name: value.strip() for name, _, value in lines}
    return Expected(
        fields.get("TITLE", ""),
        tuple(sorted(value.strip() for name, _, value in lines if name == "ALT")),
        fields.get("TYPE", ""),
        fields.get("CORRUPTED") == "Y",
        fields.get("FRAME", ""),
    )


def share(right: list[bool]) -> float:
    return sum(right) / len(right)


def test_titles(cases: list[Case]) -> None:
    assert share([case.found.title == case.expected.title for case in cases]) >= 0.95


def test_classes(cases: list[Case]) -> None:
    assert share([case.found.fault == case.expected.fault for case in cases]) >= 0.95


def test_alternatives(cases: list[Case]) -> None:
    right = [case.found.alternatives == case.expected.alternatives for case in cases]
    assert share(right) >= 0.95


def test_mangled_logs_are_said_to_be(cases: list[Case]) -> None:
    assert share([bool(case.found.mangled) == case.expected.mangled for case in cases]) >= 0.95
    # both kinds are there
    assert 50 < sum(case.expected.mangled for case in cases) < 200


def test_the_function_to_blame_is_that_of_the_title(cases: list[Case]) -> None:
    told = [case for case in cases if case.expected.function]
    assert len(told) > 10
    wrong = {
        case.name: case.found.function
        for case in told
        if (case.found.function or "corrupted") != case.expected.function
    }
    assert wrong == {}


def test_every_one_that_differs_is_known_and_has_its_reason(cases: list[Case]) -> None:
    differing = {
        case.name
        for case in cases
        if (case.found.title, case.found.fault) != (case.expected.title, case.expected.fault)
    }
    assert differing == DIFFERENT.keys()
    assert all(DIFFERENT.values())


def test_logs_without_a_crash_have_no_title(cases: list[Case]) -> None:
    quiet = [case for case in cases if not case.expected.title]
    assert len(quiet) > 5
    assert [case.name for case in quiet if case.found != CrashTitle()] == []


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (rb"^(?=\[ *\d+\.\d+\])", b"Nov 30 06:06:29 host kernel: "),
        (rb"^\[ *\d+\.\d+\]", b"[Mon Nov 30 06:06:29 2026]"),
        (rb"$", b"\r"),
    ],
    ids=["syslog", "dmesg -T", "serial"],
)
def test_the_title_is_the_same_wherever_the_log_was_kept(
    cases: list[Case], line: bytes, kept: bytes
) -> None:
    changed = re.compile(line, re.MULTILINE)
    for case in cases:
        found = read_title(changed.sub(kept, case.log)) or CrashTitle()
        assert (found.title, found.fault) == (case.found.title, case.found.fault), case.name
