"""Which tools open a dump; for one that does not, which of its rules is broken, and the remedy.

A tool's rules are what its source requires of the headers; each objection names the place, as
``project:file``. Every rule here comes from a tool's source, or was observed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from vmcorefs.core.consumers import physical, virtual
from vmcorefs.core.consumers.built import must_be_built
from vmcorefs.core.consumers.objection import Objection
from vmcorefs.core.elf.dump_headers import DumpHeaders

Rule = Callable[[DumpHeaders], Iterable[Objection]]
"""What a tool objects to in a dump's headers."""


class Answer(StrEnum):
    """Whether a tool opens a dump."""

    YES = "yes"
    BUT = "yes, but"
    NO = "no"


class Verdict(msgspec.Struct, frozen=True):
    """Whether one tool opens a dump, and what it objects to.

    Attributes:
        tool: Its name.
        objections: Empty if it opens the dump and shows all of it.
    """

    tool: str
    objections: tuple[Objection, ...]

    @property
    def answer(self) -> Answer:
        """``NO`` as soon as one objection is fatal."""
        if not self.objections:
            return Answer.YES
        return Answer.NO if any(each.fatal for each in self.objections) else Answer.BUT


RULES: dict[str, tuple[Rule, ...]] = {
    "crash": virtual.CRASH,
    "gdb": virtual.GDB,
    "drgn": virtual.DRGN,
    "makedumpfile": virtual.MAKEDUMPFILE,
    "libkdumpfile": physical.LIBKDUMPFILE,
    "volatility3": physical.VOLATILITY3,
    "MemProcFS": physical.MEMPROCFS,
}
"""The tools, and what each looks at."""


def judge(dump: DumpHeaders, host: int) -> tuple[Verdict, ...]:
    """Judge from a dump's headers alone what each tool will make of it.

    Args:
        dump: The headers.
        host: ``e_machine`` of the machine that the tools run on.
    """
    return tuple(
        Verdict(
            tool,
            (*(each for rule in rules for each in rule(dump)), *must_be_built(tool, dump, host)),
        )
        for tool, rules in RULES.items()
    )
