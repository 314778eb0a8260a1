"""What a tool has against a dump."""

from __future__ import annotations

import msgspec

GIVE_VMCOREINFO = "--vmcoreinfo FILE"
USE_UNIVERSAL = "--layout universal"


class Objection(msgspec.Struct, frozen=True):
    """One rule that a dump breaks.

    Attributes:
        rule: What the tool asks, and what it finds.
        source: Where it asks it, as ``project:file`` and a function, or where it was seen.
        remedy: What helps; empty if nothing does.
        fatal: Whether the tool does not open the dump at all.
    """

    rule: str
    source: str
    remedy: str = ""
    fatal: bool = False
