"""A machine with pages of every kind that a dump level tells apart."""

from __future__ import annotations

import struct

from tests.builders.kernels import MIB, DeadKernel
from tests.builders.pages import (
    ANON,
    FILE,
    LRU,
    POISON,
    PRIVATE,
    SECTION,
    PageArray,
    with_page_array,
)

RAM = ((0x1000, 0x9FC00), (MIB, 128 * MIB))
FREE, CACHE, USER, SHORT, BAD = (64, 72, 80, 92, 96)
"""Where they begin, in MiB; each is 8 MiB but the two last."""
FLAGS = LRU["6.12"]


def dead_kernel() -> DeadKernel:
    """A machine of 128 MiB, with a page of each kind that has something in it."""
    pages = PageArray("6.12", SECTION)
    for mib in range(FREE, FREE + 8, 4):
        pages.free(mib * 256, 10)
    for pfn in range(CACHE * 256, (CACHE + 8) * 256):
        pages.put(pfn, flags=FLAGS | (PRIVATE["6.12"] if pfn % 2 else 0), mapping=FILE)
    pages.compound(USER * 256, 11, flags=FLAGS, mapping=ANON)
    for pfn in range(SHORT * 256, SHORT * 256 + 255):
        pages.put(pfn, flags=FLAGS, mapping=FILE)
    pages.put(BAD * 256, flags=POISON)
    kernel = with_page_array(pages, RAM)
    for mib in range(FREE, BAD + 1):
        kernel.put(mib * MIB, b"".join(struct.pack("<Q", pfn) * 512 for pfn in range(256)))
    return kernel


def page(pfn: int) -> bytes:
    """What ``dead_kernel`` puts into a page."""
    return struct.pack("<Q", pfn % 256) * 512
