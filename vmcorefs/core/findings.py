"""What was found out about a dead machine: from what evidence, and how sure it is.

Everything that vmcorefs was not given but worked out from the bytes is a finding. ``check`` prints
them, and ``inspect --json`` has them for programs.
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
    """It fits the image, and nothing contradicts it."""
    GUESS = "guess"
    """A choice had to be made, on little evidence."""
    NONE = "not found"
    """It was looked for and not found."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found out.

    Attributes:
        what: What it is, such as ``memory map`` or ``VMCOREINFO``.
        value: What was found, in a few words; empty if nothing was.
        sure: How far it can be relied on.
        reasons: The evidence for it, or how it was found; a line each.
        against: The evidence against it, or what else was rejected and why; a line each.
    """

    what: str
    value: str
    sure: Sureness
    reasons: tuple[str, ...] = ()
    against: tuple[str, ...] = ()

    @property
    def is_doubtful(self) -> bool:
        """Whether a mistake in it would show wrong bytes, and there is evidence against it."""
        return self.what in (PLACEMENT, MEMORY_MAP) and bool(self.against)

    def plain(self) -> dict[str, object]:
        """The finding as plain values, for JSON."""
        return {
            "what": self.what,
            "value": self.value,
            "sure": self.sure.value,
            "reasons": list(self.reasons),
            "against": list(self.against),
        }
