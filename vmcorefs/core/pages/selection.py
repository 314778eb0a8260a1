"""Which pages a dump level keeps, a window of page frame numbers at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from vmcorefs.core.pages.dump_level import BoolArray, KindArray, left_out
from vmcorefs.core.space.ranges import Ranges, mark, pages_touched, pages_within

WINDOW = 1 << 16
"""Pages that are looked at together; their structures in the page array are about 4 MiB."""


class PageKinds(Protocol):
    """What each page of the crashed kernel was used for."""

    @property
    def page_size(self) -> int:
        """Bytes in a page of the crashed kernel."""

    def of(self, first: int, count: int) -> KindArray:
        """The kinds of the pages ``[first, first + count)``, by page frame number.

        A page that no page array describes is ``KERNEL``: it is kept. ``ZERO`` is never the answer.
        May be asked again, from several threads, and in any order.

        Raises:
            SourceIOError: if the page array cannot be read.
        """


class Selection:
    """Which pages of RAM a dump level keeps; may be asked from several threads.

    Pages of zeros are among them: whether a page is zero is seen when it is read.

    Attributes:
        ram: Page frame numbers of the pages that are RAM, if only in part; a normal set.
    """

    def __init__(self, kinds: PageKinds, ram: Ranges, level: int, lacking: Ranges) -> None:
        """Prepare to look at pages.

        Args:
            kinds: What each page was used for.
            ram: Physical addresses, a normal set.
            level: The dump level.
            lacking: Physical addresses that the image, a dump itself, lacks.

        Raises:
            ValueError: if there is no such level.
        """
        self.ram = pages_touched(ram, kinds.page_size)
        self._kinds = kinds
        self._unwanted = left_out(level)
        self._lacking = pages_within(lacking, kinds.page_size)

    def look(self, first: int) -> tuple[int, KindArray, BoolArray, BoolArray]:
        """Look at the pages of the window that begins at ``first``, of ``window_starts``.

        Returns:
            ``first``, the kind of each page, which pages of RAM are kept, and which are left out;
            the arrays have the shape ``(WINDOW,)``. The kind of what is not RAM means nothing.

        Raises:
            SourceIOError: if the page array cannot be read.
        """
        present = mark(self.ram, first, WINDOW)
        where = np.flatnonzero(present)
        low, high = int(where[0]), int(where[-1]) + 1
        kinds = np.zeros(WINDOW, dtype=np.uint8)
        kinds[low:high] = self._kinds.of(first + low, high - low)
        kept = present & ~self._unwanted[kinds] & ~mark(self._lacking, first, WINDOW)
        return first, kinds, kept, present & ~kept


def window_starts(pages: Ranges) -> Iterator[int]:
    """Where the windows begin that have pages of a normal set."""
    done = 0
    for start, end in pages.tolist():
        for first in range(max(start // WINDOW * WINDOW, done), end, WINDOW):
            yield first
            done = first + WINDOW
