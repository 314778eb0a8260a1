"""Memory that remembers which of its pages were read."""

from __future__ import annotations

import numpy as np

from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.reader import Reader


class Recorder(Reader):
    """Reads as another reader does, and remembers the pages.

    Args:
        memory: What is read.
        page_size: Bytes in a page.
    """

    def __init__(self, memory: Reader, page_size: int) -> None:
        super().__init__(memory.name, memory.table, memory.sources, memory.faults)
        self._page_size = page_size
        self._pages: set[int] = set()

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Reader.pread_into``; pages behind the first that fails count as read too."""
        first = offset // self._page_size
        end = -(-(offset + len(buffer)) // self._page_size)
        self._pages.update(range(first, end))
        super().pread_into(offset, buffer)

    def take(self) -> Int64Array:
        """The numbers of the pages that were read since this was last asked, in any order."""
        pages, self._pages = self._pages, set()
        return np.fromiter(pages, dtype=np.int64, count=len(pages))
