"""Which pages are wanted, and what for."""

from __future__ import annotations

import numpy as np

from vmcorefs.core.space.ranges import Int64Array, Ranges, distinct, normalise


class WorkingSet:
    """Pages, each with the first thing that it was wanted for.

    Attributes:
        counts: How many pages are wanted for each thing.
        pages: Their page frame numbers, shape ``(n,)``, int64, sorted.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.pages: Int64Array = np.zeros(0, dtype=np.int64)

    def add(self, what: str, pages: Int64Array) -> None:
        """Want pages, in any order."""
        both = distinct(np.concatenate((self.pages, pages)))
        self.counts[what] = self.counts.get(what, 0) + len(both) - len(self.pages)
        self.pages = both

    def ranges(self, page_size: int) -> Ranges:
        """Their physical addresses, a normal set."""
        return normalise(np.stack((self.pages, self.pages + 1), axis=1) * page_size)
