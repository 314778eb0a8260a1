"""A log to the title of its crash."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec
from msgspec.structs import replace

from vmcorefs.core.oops.account import Account, take_account
from vmcorefs.core.oops.cause import find_cause, find_panic
from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.guilt import NOBODY, Verdict, find_guilty, iter_without_prefix
from vmcorefs.core.oops.lines import read_line
from vmcorefs.core.oops.mangled import why_mangled
from vmcorefs.core.oops.rules.rule import Rule
from vmcorefs.core.oops.wording import unify

MAX_SHOWN: Final = 60
"""Lines of a report that are kept for people: with registers and a stack it has some 50."""

_HUNG_UP: Final = "serialport: VM disconnected."
"""What Google's cloud writes on a console that has lost its end."""
_IN: Final = re.compile(r" in (\{\w\})")
_ATTEMPTS: Final = 4
"""Occurrences of a family's word in a line that are looked at."""


class CrashTitle(msgspec.Struct, frozen=True):
    """What a log says of the first crash in it.

    Attributes:
        title: What groups crashes.
        alternatives: Other titles of the same crash, sorted: by another name of the function, or
            for what may be seen of the same bug elsewhere.
        fault: The class.
        function: The one to blame, as the title has it; empty if it names none.
        mangled: Why the log cannot be trusted, or nothing.
        lines: The report, without what is printed in front of each line; ``MAX_SHOWN`` at most.
    """

    title: str = ""
    alternatives: tuple[str, ...] = ()
    fault: Fault = Fault.UNKNOWN
    function: str = ""
    mangled: str = ""
    lines: tuple[str, ...] = ()


def read_title(log: bytes) -> CrashTitle | None:
    """Give the first report of a crash in a log its title.

    Args:
        log: As printed on a console, by ``dmesg`` or to syslog.

    Returns:
        None if no crash is reported.
    """
    return _read(log.decode("latin-1"), 0)


def read_cause(log: bytes) -> CrashTitle | None:
    """Give the report of what the kernel died of its title; see ``cause.py``.

    Args:
        log: All that the kernel has printed.
    """
    text = log.decode("latin-1")
    start = find_cause(text)
    return None if start is None else _read(text, start)


def read_panic(log: bytes) -> str:
    """Read the line of the last panic in a log; empty if there is none."""
    text = log.decode("latin-1")
    found = find_panic(text)
    return read_line(text[found[0] : found[1]]).text if found is not None else ""


def _read(log: str, start: int) -> CrashTitle | None:
    account = take_account(log, start)
    if account is None:
        return None
    made = replace(_apply_rules(account), lines=tuple(account.lines[:MAX_SHOWN]))
    if _HUNG_UP in log and not made.mangled:
        made = replace(made, mangled="the console was cut off")
    return made


def _apply_rules(account: Account) -> CrashTitle:
    place, heads = next(_iter_heads(account), (0, []))
    lines = account.lines[: account.own]
    for rule, match in heads:
        found = _find_details(lines, place, match, rule)
        if found is not None:
            return _make(account, rule, *found)
    # without a rule, the line is its own title
    title = unify(lines[0][lines[0].find(account.family.word) :])
    mangled = "lines that belong to this message are not in the log" if heads else ""
    return CrashTitle(title, fault=account.family.fault, mangled=mangled)


def _iter_heads(account: Account) -> Iterator[tuple[int, list[tuple[Rule, re.Match[str]]]]]:
    """Yield the lines that are the head of rules, with the rules."""
    word = account.family.word
    for place, line in enumerate(account.lines[: account.own]):
        at = line.find(word)
        for _ in range(_ATTEMPTS):
            if at < 0:
                break
            matches = [(rule, rule.head.match(line, at)) for rule in account.family.rules]
            rules = [(rule, match) for rule, match in matches if match is not None]
            if rules:
                yield place, rules
                break
            at = line.find(word, at + 1)


def _find_details(
    lines: Sequence[str], place: int, head: re.Match[str], rule: Rule
) -> tuple[int, list[str]] | None:
    """Where the report begins, and the groups of its head or its details; None if some lack."""
    if not rule.details:
        return place, [group or "" for group in head.groups()]
    found = []
    rest = enumerate(islice(lines, place, None), place)
    for pattern in rule.details:
        here = next(((at, hit) for at, line in rest if (hit := pattern.search(line))), None)
        if here is None:
            return None
        found.append(here)
    return found[0][0], [group or "" for _, hit in found for group in hit.groups()]


def _make(account: Account, rule: Rule, begin: int, groups: list[str]) -> CrashTitle:
    verdict = None
    if rule.blame is not None:
        verdict = find_guilty(account.lines[begin : account.own], rule.blame)
    names = _names(verdict)
    raw = rule.title.format(*groups, **names[0])
    mangled = why_mangled(raw, account.lines, rule)
    if verdict is not None and not verdict.clean:
        mangled = "the function to blame is not to be found"
    title = unify(raw)
    others = {
        unify(template.format(*groups, **each))
        for template in (rule.title, *rule.alternatives)
        for each in names
    }
    return CrashTitle(
        title,
        tuple(sorted(others - {title})),
        rule.fault if isinstance(rule.fault, Fault) else rule.fault(groups),
        "" if verdict and verdict.guilty is NOBODY else _named(rule).format(*groups, **names[0]),
        mangled,
    )


def _names(verdict: Verdict | None) -> list[dict[str, str]]:
    """By what names the guilty function goes; the first is for the title."""
    if verdict is None:
        return [{}]
    guilty = verdict.guilty
    names = (guilty.name, guilty.symbol, *iter_without_prefix(guilty.symbol))
    return [{"f": name, "origin": verdict.origin.name} for name in names]


def _named(rule: Rule) -> str:
    """The part of a rule's title that names a function."""
    function = _IN.search(rule.title)
    return function[1] if function else ""
