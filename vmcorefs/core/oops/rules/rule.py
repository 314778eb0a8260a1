"""A rule: what a message looks like, which title and class it has, and who is to blame."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.frames import CALL_TRACE, INSTRUCTION


class Entries(Enum):
    """A step of a trail that is no pattern."""

    STACK = auto()
    """Every entry of a stack, up to where the next one is announced."""


STACK: Final = Entries.STACK

Trail = tuple["re.Pattern[str] | Entries", ...]
"""How suspects are found, from the message on: the next line with a pattern, and the functions in
its groups if it has any; or a stack."""

Choice = Callable[[Sequence[str]], tuple[str, int] | None]
"""Who of the suspects it was, innermost first: the name for the title, and whose it is."""

AT_INSTRUCTION: Final[Trail] = (INSTRUCTION, CALL_TRACE, STACK)
"""Where the processor was; if that was nobody who is ever to blame, who called."""
ON_STACK: Final[Trail] = (CALL_TRACE, STACK)


def first(suspects: Sequence[str]) -> tuple[str, int] | None:
    """Take the innermost function."""
    return (suspects[0], 0) if suspects else None


class Blame(msgspec.Struct, frozen=True):
    """Who is to blame.

    Attributes:
        trail: Where suspects are.
        otherwise: Other trails, each for where those before it give nobody or run into what is no
            part of the report.
        spare: Functions that are not to blame for this, besides those that never are.
        choose: Who of the suspects it was.
        until: What ends a stack of the trail, besides the next one.
        origin: A second trail on which somebody must be found, or the log is mangled.
    """

    trail: Trail
    otherwise: tuple[Trail, ...] = ()
    spare: re.Pattern[str] | None = None
    choose: Choice = first
    until: re.Pattern[str] | None = None
    origin: Trail | None = None


class Rule(msgspec.Struct, frozen=True):
    """One kind of message.

    Attributes:
        head: Its first line.
        title: For ``str.format``: ``{0}`` and so on are groups of ``head``, or of ``details`` if
            there are any; ``{f}`` is the function to blame.
        fault: The class, or what makes it of the same groups.
        blame: Who is to blame; without it, the title names nobody.
        details: Lines that are needed: the first one from the head on, each further below.
        alternatives: Other titles, as ``title``; ``{origin}`` is who a second trail leads to.
        has_stack: A stack belongs to it: without one, the log is mangled.
        mangled: The message is only seen alone where a log has lost what stood before it.
    """

    head: re.Pattern[str]
    title: str
    fault: Fault | Callable[[Sequence[str]], Fault] = Fault.UNKNOWN
    blame: Blame | None = None
    details: tuple[re.Pattern[str], ...] = ()
    alternatives: tuple[str, ...] = ()
    has_stack: bool = True
    mangled: bool = False


class Family(msgspec.Struct, frozen=True):
    """Rules for messages that start with the same word.

    Attributes:
        word: It, wherever in a line it stands.
        rules: The first that matches is taken.
        harmless: Lines that have the word and report nothing.
        fault: The class where no rule matches.
    """

    word: str
    rules: tuple[Rule, ...]
    harmless: re.Pattern[str] | None = None
    fault: Fault = Fault.UNKNOWN
