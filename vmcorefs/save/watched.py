"""Telling how far the first pass over a dump is, which asks for the kinds of all pages."""

from __future__ import annotations

import threading

from vmcorefs.core.pages.dump_level import KindArray
from vmcorefs.core.space.ranges import total_size
from vmcorefs.save.dump import Dump
from vmcorefs.system.progress import Progress


class WatchedKinds:
    """The kinds of a dump's pages: to ask for them is progress, and may be stopped."""

    def __init__(self, dump: Dump, progress: Progress) -> None:
        self._kinds = dump.kinds
        self._total = total_size(dump.ram) // dump.kinds.page_size
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    @property
    def page_size(self) -> int:
        """See ``PageKinds``."""
        return self._kinds.page_size

    def of(self, first: int, count: int) -> KindArray:
        """See ``PageKinds``."""
        kinds = self._kinds.of(first, count)
        with self._lock:  # several threads ask, holes in the RAM included
            self._done = min(self._done + count, self._total)
            self._progress(self._done, self._total)
        return kinds
