"""What was found out about a dead machine, how, and how sure it is.

Everything that nobody told vmcorefs and that it worked out from the bytes is a finding; ``check``
prints them, and ``inspect --json`` has them for machines.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

PLACEMENT = "placement"
MEMORY_MAP = "memory map"


class Sureness(StrEnum):
    """How far a finding can be relied on."""

    GIVEN = "given"
    """The user said so."""
    SURE = "sure"
    """Independent evidence in the image agrees."""
    LIKELY = "likely"
    """It fits, and nothing contradicts it."""
    GUESS = "guess"
    """Something had to be chosen, and little speaks for it."""
    NONE = "not found"
    """It was looked for in vain."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found out.

    Attributes:
        what: What it is, such as ``memory map`` or ``VMCOREINFO``.
        value: What was found, in a few words; empty if nothing was.
        sure: How far it can be relied on.
        reasons: What speaks for it, or how it was found; a line each.
        against: What speaks against it, or what else was refused and why; a line each.
    """

    what: str
    value: str
    sure: Sureness
    reasons: tuple[str, ...] = ()
    against: tuple[str, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Whether a wrong one would show wrong bytes, and something speaks against it."""
        return self.what in (PLACEMENT, MEMORY_MAP) and bool(self.against)

    def plain(self) -> dict[str, object]:
        """The same as JSON has it."""
        return {
            "what": self.what,
            "value": self.value,
            "sure": self.sure.value,
            "reasons": list(self.reasons),
            "against": list(self.against),
        }
