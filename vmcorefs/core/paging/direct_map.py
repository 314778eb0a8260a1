"""Where the kernel maps physical memory, and its own image: ``p_vaddr`` of a PT_LOAD.

A kernel maps all of RAM at one distance (``page_offset_base`` on x86, ``PAGE_OFFSET`` elsewhere).
KASLR changes it, and VMCOREINFO does not have it on every architecture; the page tables do.
"""

from __future__ import annotations

import numpy as np

from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.space.columns import BoolArray
from vmcorefs.core.space.ranges import Ranges, normalise

_ADDRESSES = 1 << 64


def find_direct_map(mappings: Mappings) -> int | None:
    """How far virtual addresses of the direct map are above physical ones, modulo 2**64.

    Of the distances at which the page tables map their own root, it is the one at which most is
    mapped: the other one, of the kernel's image, covers a small part of RAM. None if there is none.
    """
    sees_root = (mappings.paddr <= mappings.root) & (mappings.root < mappings.paddr + mappings.size)
    distance, run = np.unique(mappings.vaddr - mappings.paddr, return_inverse=True)
    mapped = np.bincount(run, weights=mappings.size) * np.isin(
        np.arange(len(distance)), run[sees_root]
    )
    return int(distance[int(np.argmax(mapped))]) % _ADDRESSES if mapped.any() else None


def directly_mapped(mappings: Mappings, distance: int) -> Ranges:
    """The physical addresses that the direct map shows, a normal set.

    Args:
        mappings: The kernel's.
        distance: As ``find_direct_map`` returns it.
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
    signed = distance - _ADDRESSES if distance >= _ADDRESSES // 2 else distance
    rows: BoolArray = mappings.vaddr - mappings.paddr == signed
    return rows
