"""Why a tool rejects a dump, or reads it badly."""

from __future__ import annotations

import msgspec

GIVE_VMCOREINFO = "--vmcoreinfo FILE"
USE_UNIVERSAL = "--layout universal"


class Objection(msgspec.Struct, frozen=True):
    """One rule that a dump breaks.

    Attributes:
        rule: What the tool requires, and what it finds instead.
        source: Where it requires that, as ``project:file`` and a function, or where it was seen.
        remedy: How to avoid it; empty if nothing helps.
        fatal: Whether the tool refuses to open the dump at all.
    """

    rule: str
    source: str
    remedy: str = ""
    fatal: bool = False
