"""Machines of very many ranges of memory: what they cost, and where that ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.many import INPUTS
from tests.many import measure

MIB = 1 << 20


@pytest.mark.parametrize("kind", INPUTS)
def test_a_million_ranges_are_opened_and_inspected_in_little_memory(
    tmp_path: Path, kind: str
) -> None:
    files = INPUTS[kind](tmp_path, 1_000_000)
    for step, seconds, size in (("open", 3, 300 * MIB), ("inspect", 6, 400 * MIB)):
        took, most = measure(step, files)
        assert most <= size, f"{step}: {most / MIB:.0f} MiB"
        assert took <= seconds, f"{step}: {took} s of the processor"
