"""Where the kernel sees physical memory, and its own image: what makes ``p_vaddr`` of a PT_LOAD.

A kernel maps all of RAM at one distance (``page_offset_base`` on x86, ``PAGE_OFFSET`` elsewhere),
which KASLR moves and VMCOREINFO does not tell everywhere. Its page tables do.
"""

from __future__ import annotations

import numpy as np

from vmcorefs.core.paging_mappings import Mappings
from vmcorefs.core.ranges import Ranges, normalise

MAX_IMAGE = 1 << 30
"""Longest image that is believed, in bytes: what x86 has addresses for (KERNEL_IMAGE_SIZE)."""

_ADDRESSES = 1 << 64


def find_direct_map(mappings: Mappings) -> int | None:
    """How far virtual addresses of the direct map are above physical ones, modulo 2**64.

    Of the distances at which the page tables see their own root, it is the one at which most is
    mapped: the kernel's image, the other one, is a small part of RAM. None if there is none.
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
        distance: As ``find_direct_map`` gives it.
    """
    signed = distance - _ADDRESSES if distance >= _ADDRESSES // 2 else distance
    rows = mappings.vaddr - mappings.paddr == signed
    start = mappings.paddr[rows]
    return normalise(np.stack((start, start + mappings.size[rows]), axis=1))


def is_contiguous(mappings: Mappings, vaddr: int, size: int) -> bool:
    """Whether ``[vaddr, vaddr + size)`` is mapped to one run of physical memory."""
    page = 1 << mappings.fmt.page_shift
    inside = vaddr % page
    first = mappings.translate(vaddr - inside)
    if first is None or not 0 < size <= MAX_IMAGE:
        return False
    pages = np.arange((inside + size + page - 1) // page, dtype=np.uint64) * np.uint64(page)
    found = mappings.translate_many(np.uint64(vaddr - inside) + pages)
    return bool((found == first + pages.astype(np.int64)).all())
