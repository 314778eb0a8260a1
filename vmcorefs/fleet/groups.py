"""Which dumps are of the same crash: by title, and by stack where the title cannot be trusted.

Stacks are compared by what they share, weighted: the innermost call counts 1, each further one
``FADING`` times as much as the one before. A stack is hashed first. One that is new is looked up in
an index by function: to be ``SIMILAR``, another must have one of any functions that carry more than
``1 - SIMILAR`` of its weight, so those that the fewest stacks have are looked up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

SIMILAR: Final = 0.7
FADING: Final = 0.85
FEWEST: Final = 3
"""Calls that a stack must have to tell anything."""

NOTHING: Final = "no title and no stack"

Calls = tuple[str, ...]


class Crash(NamedTuple):
    """What a dump is compared by.

    Attributes:
        dump: Its name, for messages.
        title: What its crash is called.
        trusted: Whether the title is of a log that can be trusted.
        calls: Those that led to it, normalised.
    """

    dump: str
    title: str
    trusted: bool
    calls: Calls


class Place(NamedTuple):
    """Where a dump belongs.

    Attributes:
        group: What the group is known by, in this table and in others.
        title: What it is called.
        why: Why it is in the group.
        stack: What stacks like its own are known by; empty if it has none that tells anything.
    """

    group: str
    title: str
    why: str
    stack: str


class Stacks:
    """Stacks, each the first of those like it."""

    def __init__(self) -> None:
        self._firsts: list[dict[str, float]] = []
        self._equal: dict[Calls, tuple[int, float]] = {}
        self._with: dict[str, list[int]] = {}

    def place(self, calls: Calls) -> tuple[int, float]:
        """Find the number of the first stack that one is like, and how like; 1 if it is the first.

        Args:
            calls: Normalised, at least one.
        """
        found = self._equal.get(calls)
        if found is None:
            weights = _weigh(calls)
            likest = max(
                ((_likeness(weights, self._firsts[n]), -n) for n in self._candidates(weights)),
                default=(0.0, 0),
            )
            found = (-likest[1], likest[0])
            if found[1] < SIMILAR:
                found = (len(self._firsts), 1.0)
                self._firsts.append(weights)
                for name in weights:
                    self._with.setdefault(name, []).append(found[0])
            self._equal[calls] = found
        return found

    def _candidates(self, weights: dict[str, float]) -> set[int]:
        """All that may be similar: the others lack too much of the weight."""
        left = (1 - SIMILAR) * sum(weights.values())
        found: set[int] = set()
        for name in sorted(weights, key=lambda name: (len(self._with.get(name, ())), name)):
            found.update(self._with.get(name, ()))
            left -= weights[name]
            if left < 0:
                break
        return found


def _weigh(calls: Calls) -> dict[str, float]:
    weights: dict[str, float] = {}
    for depth, name in enumerate(calls):
        weights.setdefault(name, FADING**depth)
    return weights


def _likeness(one: dict[str, float], other: dict[str, float]) -> float:
    shared = sum(min(weight, other[name]) for name, weight in one.items() if name in other)
    return shared / (sum(one.values()) + sum(other.values()) - shared)


def group(crashes: Sequence[Crash]) -> list[Place]:
    """Find the place of each crash.

    Args:
        crashes: In the order of the table: one that is added changes no place of those before it,
            but that it may give those without a title its own.
    """
    stacks = Stacks()
    first: dict[int, Crash] = {}
    places: dict[int, Place] = {}
    # those with a title first: stacks without one are then compared with theirs
    for index in sorted(range(len(crashes)), key=lambda index: not crashes[index].trusted):
        one, like = crashes[index], None
        if len(one.calls) >= FEWEST:
            like = stacks.place(one.calls)
            first.setdefault(like[0], one)
        places[index] = _place(one, first[like[0]], like[1]) if like else _place(one)
    return [places[index] for index in range(len(crashes))]


def _place(one: Crash, first: Crash | None = None, likeness: float = 0) -> Place:
    """The place of a crash, by the first that had a stack like its own."""
    stack = _id("stack", first.calls) if first is not None else ""
    if one.trusted:
        return Place(_id("title", [one.title]), one.title, "its title", stack)
    doubt = "the log is mangled" if one.title else "no title"
    if first is None:
        title = one.title or NOTHING
        return Place(_id("title", [title]), title, f"{doubt}, and no stack to compare", stack)
    if first is one:
        why = f"{doubt}: its stack is like no other"
    else:
        how = f"{likeness:.2f} like that of {first.dump}"
        why = f"{doubt}: its stack is {how} ({SIMILAR} are needed)"
    if first.trusted:
        return Place(_id("title", [first.title]), first.title, why, stack)
    return Place(_id("stack", first.calls), f"crash in {first.calls[0]}", why, stack)


def _id(kind: str, parts: Iterable[str]) -> str:
    text = "\n".join((kind, *parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
