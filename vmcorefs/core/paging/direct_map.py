"""Where the kernel maps physical memory, and its own image: ``p_vaddr`` of a PT_LOAD.

A kernel maps all of RAM at one distance (``page_offset_base`` on x86, ``PAGE_OFFSET`` elsewhere).
KASLR changes it, and page tables may be lost, so one trace alone is not trusted: ``weigh`` puts
together all that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.space.columns import BoolArray
from vmcorefs.core.space.ranges import Int64Array, Ranges, normalise, total_size
from vmcorefs.core.space.units import format_size

_ADDRESSES = 1 << 64

Told = tuple[int, str, bool]
"""A distance; who says so; whether it counts even where nothing else bears it out."""

Check = Callable[[int], str]
"""Says what else fits a distance, in a line; empty if nothing does."""


class DirectMap(msgspec.Struct, frozen=True):
    """The direct map, and the evidence for it.

    Attributes:
        distance: How far it is above physical addresses, modulo 2**64; None if nothing tells, or
            the evidence contradicts itself.
        reasons: The facts that agree on it, a line each.
        against: What contradicts it, or why there is none, a line each.
    """

    distance: int | None
    reasons: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


def weigh(
    mappings: Mappings,
    *,
    image: int | None,
    memory: Ranges,
    told: Sequence[Told] = (),
    checks: Sequence[Check] = (),
) -> DirectMap:
    """Find the distance on which all the evidence agrees.

    A distance is proposed by what is told; by page tables that map their own root at it, as the
    root is in RAM; and by page tables that map more than half of memory at it. The kernel's image
    is mapped as well, and the root is a part of it: that distance is never the direct map's.

    Args:
        mappings: The kernel's.
        image: How far its image is above physical addresses, modulo 2**64; None if it is in the
            direct map.
        memory: What is known to be memory, a normal set.
        told: What the kernel itself says.
        checks: What else can be asked about a distance.
    """
    shown = _count(mappings, image, memory)
    # what may not count alone does if the page tables or a check bear it out
    told = [one for one in told if one[2] or one[0] in shown or any(c(one[0]) for c in checks)]
    found = _propose(mappings, shown, total_size(memory), told)
    if not found:
        return DirectMap(None, against=("neither page tables nor symbols tell where it is",))
    if len(found) > 1:
        against = (f"{distance:#x}: {'; '.join(facts)}" for distance, facts in found.items())
        return DirectMap(None, against=tuple(against))
    ((distance, facts),) = found.items()
    other = _elsewhere(mappings, distance, memory)
    if other:
        return DirectMap(None, against=(f"{distance:#x}: {'; '.join(facts)}; but {other}",))
    if distance in shown and not any("page tables" in fact for fact in facts):
        facts.append(f"the page tables map {format_size(shown[distance])} of memory at it")
    facts += filter(None, (check(distance) for check in checks))
    return DirectMap(distance, tuple(facts))


def _propose(
    mappings: Mappings, shown: dict[int, int], total: int, told: Sequence[Told]
) -> dict[int, list[str]]:
    """Each distance that something speaks for, and what does."""
    found: dict[int, list[str]] = {}
    for distance, who, _ in told:
        found.setdefault(distance, []).append(f"{who} says so")
    sees_root = (mappings.paddr <= mappings.root) & (mappings.root < mappings.paddr + mappings.size)
    roots = set((mappings.vaddr - mappings.paddr)[sees_root].view(np.uint64).tolist())
    best = max(roots & shown.keys(), key=shown.__getitem__, default=None)
    if best is not None:
        found.setdefault(best, []).append("the page tables map their own root at it")
    best = max(shown, key=shown.__getitem__, default=None)
    if best is not None and 2 * shown[best] > total:
        size = f"{format_size(shown[best])} of {format_size(total)}"
        found.setdefault(best, []).append(f"the page tables map {size} of memory at it")
    return found


def _count(mappings: Mappings, image: int | None, memory: Ranges) -> dict[int, int]:
    """Bytes of memory that are mapped at each distance but the image's, if there are any."""
    if not len(memory) or not len(mappings):
        return {}
    before = np.concatenate(([0], np.cumsum(memory[:, 1] - memory[:, 0])))

    def below(paddr: Int64Array) -> Int64Array:
        row = np.searchsorted(memory[:, 0], paddr, side="right") - 1
        inside = np.minimum(paddr, memory[row, 1]) - memory[row, 0]
        size: Int64Array = np.where(row >= 0, before[row] + inside, 0)
        return size

    distance, run = np.unique(mappings.vaddr - mappings.paddr, return_inverse=True)
    shown = np.zeros(len(distance), dtype=np.int64)
    np.add.at(shown, run, below(mappings.paddr + mappings.size) - below(mappings.paddr))
    kept = shown > 0
    if image is not None:
        kept &= distance.view(np.uint64) != np.uint64(image % _ADDRESSES)
    return dict(zip(distance[kept].view(np.uint64).tolist(), shown[kept].tolist(), strict=True))


def _elsewhere(mappings: Mappings, distance: int, memory: Ranges) -> str:
    """What the page tables map where the direct map would be, but to other memory."""
    if not len(memory):
        return ""
    at, signed = _at_distance(mappings, distance), _signed(distance)
    # RAM need not begin at 0: what riscv64 has below its direct map is the fixmap
    start = int(mappings.vaddr[at][0]) if at.any() else signed + int(memory[0, 0])
    end = signed + int(memory[-1, 1])
    inside = (mappings.vaddr + mappings.size > start) & (mappings.vaddr < end)
    rows = np.flatnonzero(inside & ~at)
    if not len(rows):
        return ""
    vaddr, paddr = int(mappings.vaddr[rows[0]]), int(mappings.paddr[rows[0]])
    return f"the page tables map {vaddr % _ADDRESSES:#x} to {paddr:#x}"


def directly_mapped(mappings: Mappings, distance: int) -> Ranges:
    """The physical addresses that the direct map shows, a normal set.

    Args:
        mappings: The kernel's.
        distance: As in ``DirectMap``.
    """
    rows = _at_distance(mappings, distance)
    start = mappings.paddr[rows]
    return normalise(np.stack((start, start + mappings.size[rows]), axis=1))


def image_span(mappings: Mappings, distance: int) -> tuple[int, int] | None:
    """What is mapped at the distance of the kernel's image, from the first to the last byte.

    Args:
        mappings: The kernel's.
        distance: How far its image is above physical addresses, modulo 2**64.

    Returns:
        Virtual addresses, half-open, unsigned; None if nothing is mapped at this distance.
    """
    rows = _at_distance(mappings, distance)
    if not rows.any():
        return None
    start = int(mappings.vaddr[rows][0])
    end = int((mappings.vaddr + mappings.size)[rows][-1])
    return start % _ADDRESSES, start % _ADDRESSES + end - start


def _at_distance(mappings: Mappings, distance: int) -> BoolArray:
    rows: BoolArray = mappings.vaddr - mappings.paddr == _signed(distance)
    return rows


def _signed(distance: int) -> int:
    return distance - _ADDRESSES if distance >= _ADDRESSES // 2 else distance
