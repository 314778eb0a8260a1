"""Where in a log reports begin: lines that have the word of a family of messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.core.oops.lines import REPLAYED
from vmcorefs.core.oops.rules.families import FAMILIES
from vmcorefs.core.oops.rules.rule import Family

_SAME_MATTER: Final = re.compile(
    # how a report goes on or ends, and a fault that was met while one was being written
    "invalid opcode: 0000|Kernel panic - not syncing|PANIC: double fault|Internal error:"
    "|unregister_netdevice: waiting for"
)


class Head(msgspec.Struct, frozen=True):
    """A line that begins a report.

    Attributes:
        start: Where it is in the log.
        end: Where its line end is.
        family: Whose word it has.
    """

    start: int
    end: int
    family: Family


def same_matter(log: str, head: Head) -> bool:
    """Whether a head is usually of a report that has begun before."""
    return _SAME_MATTER.search(log, head.start, head.end) is not None


def iter_heads(log: str, start: int = 0) -> Iterator[Head]:
    """Yield all heads from ``start`` on, in time linear in the log."""
    places = {family.word: log.find(family.word, start) for family in FAMILIES}
    while places := {word: place for word, place in places.items() if place >= 0}:
        place = min(places.values())
        start = log.rfind("\n", 0, place) + 1
        end = log.find("\n", place)
        end = len(log) if end < 0 else end
        here = {word for word, place in places.items() if place < end}
        if not log.startswith(REPLAYED, end):
            family = _family(log[start:end], here)
            if family is not None:
                yield Head(start, end, family)
        for word in here:
            places[word] = log.find(word, end)


def _family(line: str, words: set[str]) -> Family | None:
    for family in FAMILIES:
        harmless = family.harmless
        if family.word in words and not (harmless is not None and harmless.search(line)):
            return family
    return None
