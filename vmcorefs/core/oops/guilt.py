"""Who is to blame for a crash: following a trail of the report to a function."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from vmcorefs.core.oops.frames import begins_stack, entries
from vmcorefs.core.oops.innocent import is_innocent
from vmcorefs.core.oops.rules.rule import Blame, Entries, Trail
from vmcorefs.core.oops.rust_names import demangle

MAX_SUSPECTS: Final = 1 << 12
"""No stack of a kernel has as many entries; a text that pretends to be one may."""

_INJECTED: Final = re.compile(
    r"(?: \[<?(?:0x)?[0-9a-f]+>?\])? should_fail(?:slab)?(?:\.[a-z0-9.]+)?\+0x"
)
"""A stack of lib/fault-inject.c, printed in the middle of another."""


class Guilty(msgspec.Struct, frozen=True):
    """The function to blame.

    Attributes:
        name: For the title.
        symbol: As the log has it.
    """

    name: str
    symbol: str


NOBODY: Final = Guilty("corrupted", "corrupted")
"""Stands in titles for a function that a log should name and does not."""


class Verdict(msgspec.Struct, frozen=True):
    """What following a trail led to.

    Attributes:
        guilty: Who is to blame.
        origin: Who is at the end of the second trail, if the rule has one.
        clean: Somebody was found, and no stack of another matter was met.
    """

    guilty: Guilty
    origin: Guilty
    clean: bool


_PREFIXES: Final = (
    *("SYSC_", "SyS_", "sys_", "ksys_", "__sys_", "___sys_", "____sys_", "__se_", "__se_sys_"),
    *("__do_sys_", "__x64_", "__ia32_", "__arm64_", "compat_SYSC_", "compat_SyS_"),
)
"""What the ways into one system call are called (include/linux/syscalls.h, syscall_wrapper.h)."""


def without_prefix(symbol: str) -> str:
    """Name a system call alike, on whatever machine and by whatever way it was entered."""
    return min(iter_without_prefix(symbol), key=len, default=symbol)


def iter_without_prefix(symbol: str) -> Iterator[str]:
    """Yield all names that a system call's function has without one of the usual prefixes."""
    for prefix in _PREFIXES:
        if symbol.startswith(prefix):
            yield symbol[len(prefix) :]


def find_guilty(lines: Sequence[str], blame: Blame) -> Verdict:
    """Find who is to blame.

    Args:
        lines: Of the report, from its head on.
        blame: How to find them.
    """
    guilty, clean = None, False
    for trail in (blame.trail, *blame.otherwise):
        guilty, clean = _follow(lines, trail, blame)
        if guilty is not None and clean:
            break
    origin = None
    if blame.origin is not None:
        origin, _ = _follow(lines, blame.origin, blame)
        clean = clean and origin is not None
    return Verdict(guilty or NOBODY, origin or NOBODY, clean and guilty is not None)


def _follow(lines: Sequence[str], trail: Trail, blame: Blame) -> tuple[Guilty | None, bool]:
    symbols, clean = _collect(lines, trail, blame.until)
    suspects = [
        name
        for name in map(demangle, symbols)
        if not is_innocent(name) and (blame.spare is None or not blame.spare.search(name))
    ]
    chosen = blame.choose([without_prefix(name) for name in suspects])
    if chosen is None:
        return None, clean
    name, index = chosen
    return Guilty(name, suspects[index]), clean


def _collect(
    lines: Sequence[str], trail: Trail, until: re.Pattern[str] | None
) -> tuple[list[str], bool]:
    """All functions along a trail, and whether it met no stack of another matter."""
    found: list[str] = []
    clean = True
    rest = iter(lines)
    for step in trail:
        for line in rest:
            if _INJECTED.match(line):
                clean = False
                break
            if isinstance(step, Entries):
                if begins_stack(line) or (until is not None and until.search(line)):
                    break
                found += entries(line)
            elif (match := step.search(line)) is not None:
                found += (group for group in match.groups() if group)
                break
            if len(found) > MAX_SUSPECTS:
                return found, clean
    return found, clean
