"""Where the bytes of one file belong in the physical address space, if the user does not say.

A file of memory has no addresses in it. Programs write them in one of these ways:

==================  =====================================================  =========================
way                 offset of a physical address                           who
==================  =====================================================  =========================
flat                the address itself                                     dd, pmemsave, LiME padded
from a base         the address less where RAM starts                      QEMU on arm64, riscv64
split               below 4 GiB flat; what lies from 4 GiB on follows it   QEMU's pc and q35, VMMs
concatenated        System RAM, one range right behind the other           LiME raw
==================  =====================================================  =========================

QEMU: hw/i386/pc_q35.c, pc_piix.c (``below_4g_mem_size``); LiME: src/main.c (``LIME_MODE_RAW``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from vmcorefs.core.space.extents import Extents, Kind, validate
from vmcorefs.core.space.ranges import Int64Array, Ranges, intersect, make_ranges, total_size
from vmcorefs.core.space.units import format_size

PCI_HOLE_END = 1 << 32
"""On x86, RAM that does not fit below the PCI hole starts here."""

USUAL_SPLITS = (2 << 30, 3 << 30, 7 << 29)
"""RAM that a virtual machine has below 4 GiB, for want of its memory map: q35; pc; old pc."""

FLAT = "flat: offset is physical address"

FIRMWARE = 64 << 20
"""The most that firmware reserves below the PCI hole."""


class Placement(msgspec.Struct, frozen=True, eq=False):
    """One way to lay a file out.

    Attributes:
        name: For people.
        start: First physical address of each piece, shape ``(n,)``, int64, sorted.
        offset: Where it is in the file, shape ``(n,)``, int64, bytes.
        size: Bytes in each piece, shape ``(n,)``, int64.
    """

    name: str
    start: Int64Array
    offset: Int64Array
    size: Int64Array

    def extents(self, source: int, skip: int) -> Extents:
        """The placement as a table of extents.

        Args:
            source: Index of the file.
            skip: Bytes before the memory in the file.
        """
        count = len(self.start)
        return validate(
            Extents(
                self.start,
                self.size,
                self.offset + skip,
                np.full(count, source, dtype=np.int32),
                np.full(count, Kind.DATA, dtype=np.int8),
            )
        )

    def shows(self, paddr: int, offset: int) -> bool:
        """Whether it has the physical address ``paddr`` at ``offset`` of the file."""
        inside = (self.start <= paddr) & (paddr < self.start + self.size)
        return bool((inside & (self.offset + (paddr - self.start) == offset)).any())


def flat(size: int, base: int = 0) -> Placement:
    """A file of ``size`` bytes in one piece, from physical address ``base`` on."""
    name = f"one piece from {base:#x} on" if base else FLAT
    return _placement(name, [(base, 0, size)])


def split(size: int, low: int) -> Placement:
    """The first ``low`` bytes from address 0 on, and the rest from 4 GiB on."""
    name = f"{format_size(low)} below the PCI hole, directly followed by memory above 4 GiB"
    return _placement(name, [(0, 0, low), (PCI_HOLE_END, low, size - low)])


def concatenated(ram: Ranges, size: int) -> Placement:
    """The ranges of ``ram``, a normal set, directly after each other, up to ``size`` bytes."""
    length = ram[:, 1] - ram[:, 0]
    offset = np.cumsum(length) - length
    held = np.minimum(length, size - offset)
    some = held > 0
    return Placement(
        "ranges of System RAM directly after each other", ram[some, 0], offset[some], held[some]
    )


def iter_placements(
    size: int, delta: int, read_ram: Callable[[], Ranges | None]
) -> Iterator[Placement]:
    """Every plausible placement of a file of ``size`` bytes, the simplest first.

    Args:
        size: Of the file, in bytes.
        delta: Physical address minus offset, at a place in the file that is known.
        read_ram: Returns the machine's RAM, a normal set, as far as it is known, or None. Called
            only if the simplest placement does not fit.
    """
    if delta == 0:
        yield flat(size)
    ram = read_ram()
    if delta > 0 and (ram is None or delta == int(ram[0, 0])):
        yield flat(size, delta)
    for low in _splits(size, ram):
        if delta in (0, PCI_HOLE_END - low):
            yield split(size, low)
    if ram is not None:
        yield concatenated(ram, size)
        # the kernel's map may lack the first RAM, if firmware keeps it
        if delta > 0 and delta != int(ram[0, 0]):
            yield flat(size, delta)


def _splits(size: int, ram: Ranges | None) -> Iterator[int]:
    if ram is None:
        yield from (low for low in USUAL_SPLITS if low < size)
        return
    high = total_size(intersect(ram, make_ranges([(PCI_HOLE_END, int(ram[-1, 1]) + 1)])))
    below = intersect(ram, make_ranges([(0, PCI_HOLE_END)]))
    end = int(below[-1, 1]) if len(below) else 1
    if not high:
        return
    low = size - high
    if end <= low <= PCI_HOLE_END:
        yield low
    # the file may lack its end; firmware reserves the last memory below the hole
    for usual in USUAL_SPLITS:
        if usual != low and end <= usual < min(end + FIRMWARE, size):
            yield usual


def _placement(name: str, pieces: list[tuple[int, int, int]]) -> Placement:
    start, offset, size = np.array(pieces, dtype=np.int64).T
    return Placement(name, start, offset, size)
