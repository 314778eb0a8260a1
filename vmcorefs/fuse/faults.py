"""The log of failed reads: each fault once, by name and address, and never a flood."""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable
from threading import Lock

from vmcorefs.errors import FaultError, SourceIOError, UnreadableError, VmcorefsError
from vmcorefs.tree.file import TreeFile

log = logging.getLogger(__name__)

FindPaddr = Callable[[SourceIOError, TreeFile, int], int | None]
"""From ``(error, file, offset)`` to the physical address of what could not be read of a file of the
tree; None if there is no memory at it."""

_BURST = 20
_SECONDS_EACH = 6.0
_MOST_KEPT = 10_000
"""Most logged faults to remember."""
_NEIGHBOURS = 1 << 20
"""Late reads of one file this close together count as one: readers go on page by page."""
_PAGE = 4096


class RateLimit:
    """Lets a burst through, then one now and then, and counts the rest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens, self._at = float(_BURST), clock()
        self._held_back = 0

    def allow(self) -> bool:
        """Whether one more may pass; if not, it is counted."""
        self._refill()
        if self._tokens < 1:
            self._held_back += 1
            return False
        self._tokens -= 1
        return True

    def take_held_back(self) -> int:
        """How many did not pass; 0 as long as there is no room to log that."""
        self._refill()
        if not self._held_back or self._tokens < 1:
            return 0
        self._tokens -= 1
        count, self._held_back = self._held_back, 0
        return count

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._at) / _SECONDS_EACH, _BURST)
        self._at = now


class FaultLog:
    """Logs failed reads; any number of threads may call it."""

    def __init__(self, find_paddr: FindPaddr) -> None:
        """Start with nothing logged."""
        self._find_paddr = find_paddr
        self._lock = Lock()
        # expected errors, such as a walk through holes, must not hold back unexpected ones
        self._limits = {level: RateLimit() for level in (logging.ERROR, logging.INFO)}
        self._told: set[tuple[str, str, int]] = set()
        self._runs: dict[tuple[str, str], Runs] = {}

    def report(self, file: TreeFile, offset: int, error: VmcorefsError) -> None:
        """Log an error of a read of ``file`` at ``offset``, unless it has been logged already."""
        # debuggers routinely walk off the end of a stack in kcore, and the kernel reads ahead
        # into pages that were left out of a dump
        expected = isinstance(error, FaultError) and error.kind in ("hole", "excluded")
        level = logging.INFO if expected else logging.ERROR
        if self._is_new(_key(file, offset, error), level, error):
            at = _place(file, offset, error)
            paddr = self._address(error, file, at)
            log.log(level, "%s at %#x: %s%s", file.path, at, error, paddr)

    def out_of_memory(self) -> None:
        """Log that there was no memory for a request, unless that has been logged already."""
        if self._is_new(("", "memory", 0)):
            log.error("out of memory: requests that need it are answered with EIO")

    def give_up(self, file: TreeFile, offset: int, size: int, seconds: float) -> None:
        """Log that a read has taken too long, unless that has been logged already."""
        if self._is_new((file.path, "late", offset // _NEIGHBOURS)):
            log.error(
                "%s at %#x: no answer from %s for %d bytes after %.0f s: the reader gets EIO",
                *(file.path, offset, names_at(file, offset, size), size, seconds),
            )

    def flush(self) -> None:
        """Log how many errors were held back, if there is room for that."""
        for level, limit in self._limits.items():
            with self._lock:
                count = limit.take_held_back()
            if count:
                log.log(level, "%d more read errors, which are not listed here", count)

    def _is_new(
        self,
        key: tuple[str, str, int],
        level: int = logging.ERROR,
        error: VmcorefsError | None = None,
    ) -> bool:
        with self._lock:
            if key in self._told:
                return False
            if isinstance(error, SourceIOError) and not error.is_page:
                # readers go on page by page: pages in a row are one fault
                if not self._runs.setdefault(key[:2], Runs()).add(error.position):
                    return False
            elif len(self._told) < _MOST_KEPT:
                self._told.add(key)
            return self._limits[level].allow()

    def _address(self, error: VmcorefsError, file: TreeFile, place: int) -> str:
        if not isinstance(error, SourceIOError):
            return ""
        paddr = self._find_paddr(error, file, place)
        return "" if paddr is None else f" (physical address {paddr:#x})"


class Runs:
    """Pages that could not be read; those in a row are one run, and no more than so many are kept.

    The runs lie apart, in order.
    """

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, position: int) -> bool:
        """Add the page that holds ``position``; return whether a run begins with it."""
        start = position // _PAGE
        row = bisect_right(self._starts, start)
        follows = row > 0 and start <= self._ends[row - 1]
        leads = row < len(self._starts) and start + 1 == self._starts[row]
        if follows:
            self._ends[row - 1] = max(self._ends[row - 1], start + 1)
            if self._ends[row - 1 : row] == self._starts[row : row + 1]:
                self._ends[row - 1] = self._ends.pop(row)
                del self._starts[row]
        elif leads:
            self._starts[row] = start
        elif len(self._starts) < self._most:
            self._starts.insert(row, start)
            self._ends.insert(row, start + 1)
        return not (follows or leads)


def names_at(file: TreeFile, offset: int, size: int) -> str:
    """The inputs that a read touches, for a message."""
    return ", ".join(sorted(input_names(file, offset, size))) or "memory"


def input_names(file: TreeFile, offset: int, size: int) -> frozenset[str]:
    """The names of the inputs that a read touches, not counting what vmcorefs has made."""
    sources = file.reader.sources_at(offset, size)
    return frozenset(source.name for source in sources if source.role != "made")


def _place(file: TreeFile, offset: int, error: VmcorefsError) -> int:
    """Where in the file the fault is: the read may have started long before it."""
    if isinstance(error, FaultError) and not isinstance(error, UnreadableError):
        return error.offset
    if isinstance(error, SourceIOError) and file.is_made:
        found = file.reader.address_of(error, since=offset)
        return offset if found is None else found
    return offset


def _key(file: TreeFile, offset: int, error: VmcorefsError) -> tuple[str, str, int]:
    if isinstance(error, SourceIOError):
        return file.path, error.source, error.position
    at = error.offset if isinstance(error, FaultError) else offset
    return file.path, type(error).__name__, file.reader.row_of(at) if file.is_made else -1
