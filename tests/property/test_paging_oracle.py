"""libaddrxlat walks tables of x86-64 and arm64 to the same places as we do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.builders.mappings import walk_tables
from tests.builders.page_tables import MACHINES, TOP, Tables, arm, x86
from tests.oracles.addrxlat import AARCH64, AARCH64_LPA, AARCH64_LPA2, LIBRARY, X86_64, AddrXlat
from tests.property.strategies import mapped_tables

pytestmark = pytest.mark.needs(LIBRARY)

FORMATS = {
    x86(48).name: (X86_64, (12, 9, 9, 9, 9)),
    x86(57).name: (X86_64, (12, 9, 9, 9, 9, 9)),
    arm(4, 39).name: (AARCH64, (12, 9, 9, 9)),
    arm(4, 48).name: (AARCH64, (12, 9, 9, 9, 9)),
    arm(4, 52).name: (AARCH64_LPA2, (12, 9, 9, 9, 9, 4)),
    arm(16, 36).name: (AARCH64, (14, 11, 11)),
    arm(16, 47).name: (AARCH64, (14, 11, 11, 11)),
    arm(16, 48).name: (AARCH64, (14, 11, 11, 11, 1)),
    arm(16, 52).name: (AARCH64_LPA2, (14, 11, 11, 11, 5)),
    arm(64, 42).name: (AARCH64_LPA, (16, 13, 13)),
    arm(64, 48).name: (AARCH64_LPA, (16, 13, 13, 6)),
    arm(64, 52).name: (AARCH64_LPA, (16, 13, 13, 10)),
}

LOST = {AARCH64_LPA: 1 << 47, AARCH64_LPA2: 1 << 49}
"""The highest bit of what an entry keeps in place: libaddrxlat 0.5.1 loses it, against the Arm ARM
(D8.3.1: OA[47:16] with 64 KiB pages, OA[49:12] with LPA2)."""

SUPPORTED = [machine for machine in MACHINES if machine.name in FORMATS]
assert len(SUPPORTED) == len(FORMATS)


@given(mapped_tables(st.sampled_from(SUPPORTED)), st.data())
@settings(max_examples=150)
def test_both_walks_end_at_the_same_place(tables: Tables, data: st.DataObject) -> None:
    machine = tables.machine
    pte_format, bits = FORMATS[machine.name]

    def read_page(paddr: int) -> bytes | None:
        start = paddr - tables.base
        held = 0 <= start <= len(tables.memory) - machine.page
        return bytes(tables.memory[start : start + machine.page]) if held else None

    oracle = AddrXlat(read_page, root=tables.root, pte_format=pte_format, bits=bits)
    found = walk_tables(tables)
    inside = data.draw(st.integers(0, machine.page - 1))
    near = {
        vaddr
        for start, _, size, _ in tables.mapped
        for vaddr in (start - 1, start, start + inside, start + size - 1, start + size)
        if machine.start <= vaddr < TOP
    }
    vaddrs = sorted(near)
    expected = [oracle.translate(vaddr) for vaddr in vaddrs]
    paddrs = found.translate_many(np.array(vaddrs, dtype=np.uint64)).tolist()
    kept = ~LOST.get(pte_format, 0)
    assert [paddr if paddr < 0 else paddr & kept for paddr in paddrs] == expected
    assert max(expected) >= 0
