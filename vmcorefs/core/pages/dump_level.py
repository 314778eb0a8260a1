"""Kinds of pages, and the dump levels that leave them out.

The levels are makedumpfile's ``-d``: a sum of bits, each of which leaves one kind out
(makedumpfile.8, "-d dump_level").
"""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
KindArray = npt.NDArray[np.uint8]
"""One ``PageKind`` for each page, uint8, shape ``(n,)``."""

MAX_DUMP_LEVEL = 31


class PageKind(enum.IntEnum):
    """What a page is used for, as far as dump levels distinguish.

    ``ZERO`` is found by reading the page; the others come from the kernel's own page array.
    """

    KERNEL = 0
    ZERO = 1
    CACHE = 2
    CACHE_PRIVATE = 3
    USER = 4
    FREE = 5
    HWPOISON = 6
    OFFLINE = 7


_LEFT_OUT_BY = {
    PageKind.KERNEL: 0,
    PageKind.ZERO: 1,
    PageKind.CACHE: 2 | 4,
    PageKind.CACHE_PRIVATE: 4,
    PageKind.USER: 8,
    PageKind.FREE: 16,
}


def left_out(level: int) -> BoolArray:
    """Which kinds a dump level leaves out, by ``PageKind``, shape ``(8,)``.

    Pages that the hardware has poisoned, and those that a balloon or memory hotplug has taken
    offline, are left out at every level: reading them may hang the machine.

    Raises:
        ValueError: if ``level`` is not from 0 to ``MAX_DUMP_LEVEL``.
    """
    if not 0 <= level <= MAX_DUMP_LEVEL:
        raise ValueError(f"dump level {level}: expected 0 to {MAX_DUMP_LEVEL}")
    return np.array(
        [kind not in _LEFT_OUT_BY or bool(level & _LEFT_OUT_BY[kind]) for kind in PageKind]
    )
