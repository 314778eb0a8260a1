"""What a log has of one crash: the lines of whoever reported it, from its head on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.core.oops.heads import Head, iter_heads, same_matter
from vmcorefs.core.oops.lines import MAX_LINE, STAMPED, UNSTAMPED, Line, iter_lines, read_line
from vmcorefs.core.oops.rules.rule import Family

MAX_LINES: Final = 1 << 16
"""Lines of a report that are looked at: room for the stacks of a thousand CPUs."""

_OTHER_STACKS: Final = (
    "vmalloc: allocation failure:",
    "FAULT_INJECTION: forcing a failure",
    "FAULT_FLAG_ALLOW_RETRY missing",
)
"""Messages that report no crash and come with a stack."""

_OTHER_CPUS: Final = "Sending NMI from CPU"
"""From here on other CPUs print what they do, because they are asked to (lib/nmi_backtrace.c)."""
_TAINTED: Final = "Disabling lock debugging due to kernel taint"
_TOLD_AGAIN: Final = re.compile(
    "Kernel panic - not syncing|WARNING: possible circular locking dependency detected"
)
"""A panic that follows a report (panic_on_warn) has the same stack again; and printing one takes
locks in an order that lockdep may not know."""

_WHOLE: Final = 22
_WHOLE_KMSAN: Final = 16
"""Lines that a report has at least; without as many, what is told again may be all there is."""


class Account(msgspec.Struct, frozen=True):
    """A report of a crash.

    Attributes:
        family: Which rules are for it.
        lines: Its lines, without what is printed in front of each; the first one is its head.
        own: How many of them are surely its own: then another report begins, and the kernel does
            not tell who prints.
    """

    family: Family
    lines: list[str]
    own: int


def take_account(log: str, start: int = 0) -> Account | None:
    """Take the first report of a crash out of a log; None if there is none.

    Args:
        log: All of it.
        start: Where to begin: a line's start.
    """
    heads = iter_heads(log, start)
    head = next(heads, None)
    if head is None:
        return None
    first = read_line(log[head.start : head.end].rstrip("\r"))
    if head.family.word not in first.text:  # it is in what stands in front, or far behind
        at = log.index(head.family.word, head.start, head.end)
        return Account(head.family, [log[at : min(head.end, at + MAX_LINE)]], 1)
    # where the kernel tells who prints, what others print is not in the way
    told_apart = first.speaker not in {STAMPED, UNSTAMPED}
    foreign = len(log) if told_apart else _find_foreign(log, head, heads)
    lines, own = [first.text], 1
    for place, text in _iter_own(log, head, first):
        lines.append(text)
        if place < foreign:
            own = len(lines)
        if len(lines) == MAX_LINES:
            break
    return Account(head.family, lines, own)


def _iter_own(log: str, head: Head, first: Line) -> Iterator[tuple[int, str]]:
    """Yield the lines of whoever printed the head, with their places."""
    whole = _WHOLE_KMSAN if "BUG: KMSAN:" in first.text else _WHOLE
    others = False
    count = 1
    for place, raw in iter_lines(log, head.end + 1):
        text, speaker, doubtful = read_line(raw)
        if doubtful or not (speaker == first.speaker or (others and speaker.startswith("C"))):
            continue
        count += 1
        if count > whole and _TOLD_AGAIN.search(text):
            return
        others = others or _OTHER_CPUS in text
        if _TAINTED not in text:
            yield place, text


def _find_foreign(log: str, head: Head, heads: Iterator[Head]) -> int:
    """Where something begins that is surely not of the report."""
    end = next((each.start for each in heads if not same_matter(log, each)), len(log))
    for words in _OTHER_STACKS:
        at = log.find(words, head.end, end)
        if at >= 0:
            end = log.rfind("\n", head.end, at) + 1
    return end
