"""Whether a report has lost a part, or parts of others have got into it.

Consoles drop characters, and several CPUs print at once: then a title may name the wrong function.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from vmcorefs.core.oops.frames import RISCV_REGISTERS, STACKS, begins_stack, entries
from vmcorefs.core.oops.rules.rule import Rule

_TIME: Final = re.compile(r"\[ *\d+\.\d+\]")
_UNAVAILABLE: Final = "(stack is not available)"  # mm/kasan/report.c
_NEAR: Final = 15
"""Lines below a stack's announcement in which an entry must be."""


def why_mangled(title: str, lines: Sequence[str], rule: Rule) -> str:
    """Say what is wrong with a report, or nothing.

    Args:
        title: What was made of it.
        lines: All of it.
        rule: By which the title was made.
    """
    if _TIME.search(title):
        return "lines have run into one another: there is a time in the title"
    if rule.mangled:
        return "what belongs before this message is not in the log"
    return _why_stacks(lines) if rule.has_stack else ""


def _why_stacks(lines: Sequence[str]) -> str:
    """Say what is wrong with the first stack of each kind."""
    found = False
    for kind in STACKS:
        at = next((i for i, line in enumerate(lines) if kind.search(line)), None)
        if at is None:
            continue
        if len(lines) - at < _FEWEST:
            return "the log ends where a stack begins"
        if _has_entries(lines, at + 1):
            found = True
        elif kind is not RISCV_REGISTERS:
            return "a stack has no entries"
    return "" if found else "there is no stack"


_FEWEST: Final = 3


def _has_entries(lines: Sequence[str], start: int) -> bool:
    for line in islice(lines, start, start + _NEAR):
        if begins_stack(line):
            return False
        if _UNAVAILABLE in line or entries(line):
            return True
    return False
