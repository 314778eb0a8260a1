"""QEMU's flat view of a guest's physical address space: the text of its ``info mtree -f``.

A line says which memory region answers a range of addresses, both ends included (softmmu/memory.c,
``mtree_print_flatview``; system/physmem.c since 8.2).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from vmcorefs.core.space.units import MAX_ADDRESS

_SPACE: Final = re.compile(r'^ AS "memory", root: system\s*$', re.MULTILINE)
_ROW: Final = re.compile(
    r"^  (?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16}) \(prio -?[0-9]+, (?P<type>[a-z/-]+)\):"
    r" (?P<name>.*?)(?: @(?P<offset>[0-9a-f]{16}))?(?: (?:KVM|HVF|MSHV|NVMM|WHPX))?\s*$",
    re.MULTILINE,
)


class Run(msgspec.Struct, frozen=True):
    """Addresses that are answered by one run of one RAM block.

    Attributes:
        start: The first physical address.
        end: One past the last.
        block: The region's name.
        offset: Where ``start`` lies in the region, in bytes.
    """

    start: int
    end: int
    block: str
    offset: int


def parse_flat_view(text: str) -> list[Run]:
    """Which addresses of the guest are RAM.

    What the guest may not write at the moment counts, if the same region is RAM elsewhere: the
    chipset shadows ROM in RAM. Memory of a display is RAM to QEMU, as the guest's own map knows.

    Args:
        text: What ``info mtree -f`` answered.

    Returns:
        In order of address, neighbours joined; empty if there is no view of the memory.
    """
    # views that are equal are printed once, under the names of all their address spaces
    views = (view for view in text.split("\nFlatView ") if _SPACE.search(view))
    rows = [row for row in _ROW.finditer(next(views, "")) if row["type"] in ("ram", "rom")]
    ram = {row["name"] for row in rows if row["type"] == "ram"}
    runs: list[Run] = []
    for row in rows:
        start, end = int(row["first"], 16), int(row["last"], 16) + 1
        if row["name"] not in ram or not start < end <= MAX_ADDRESS:
            continue
        run = Run(start, end, row["name"], int(row["offset"] or "0", 16))
        last = runs[-1] if runs else None
        if last is not None and _continues(last, run):
            runs[-1] = Run(last.start, run.end, last.block, last.offset)
        elif last is None or last.end <= run.start:
            runs.append(run)
    return runs


def _continues(last: Run, run: Run) -> bool:
    return (
        last.block == run.block
        and last.end == run.start
        and last.offset + last.end - last.start == run.offset
    )
