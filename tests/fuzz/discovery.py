"""What discovery reads of a kernel that it knows nothing of: maps of its RAM, notes, tables."""

from __future__ import annotations

from tests.fuzz.target import target
from tests.property.discovery_targets import SEEDS, VALID

for _check, _valid in VALID:
    _nasty = [seed for seed in SEEDS if seed != _valid]
    target(f"discovery-{_check.__name__.replace('_', '-')}", [_valid], _nasty)(_check)
