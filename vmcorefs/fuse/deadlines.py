"""Reads that take too long: the reader gets an error, and the hanging thread is replaced.

A thread that waits for a disk or a network cannot be interrupted. But another thread can answer its
request: the kernel takes the first answer, and refuses the later one with ENOENT.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from threading import Lock

import msgspec

_MOST_HUNG = 128
"""Most reads of one input that may hang at once; each occupies a thread."""
_SETTINGS = Path("/proc/sys/fs/fuse")


class Pending(msgspec.Struct, eq=False):
    """A request that is being handled.

    Attributes:
        unique: The kernel's number of it.
        node: The file.
        offset: First byte asked for.
        size: Bytes asked for; 0 for a seek.
        since: When it was received, by ``time.monotonic``.
        is_back: Whether the work on it has ended, though it was late.
    """

    unique: int
    node: int
    offset: int
    size: int
    since: float
    is_back: bool = False


class Deadlines:
    """The requests being handled, and when each is late."""

    def __init__(self, timeout: float) -> None:
        """Start with none.

        Args:
            timeout: Seconds that a request may take; 0 for any time.
        """
        self._timeout = timeout
        self._pending: dict[int, Pending] = {}

    def begin(self, unique: int, node: int, offset: int, size: int) -> Pending:
        """Record a request."""
        pending = Pending(unique, node, offset, size, time.monotonic())
        # no lock: a single operation on a dictionary is atomic
        self._pending[unique] = pending
        return pending

    def end(self, pending: Pending) -> bool:
        """Record that a request is finished or given up; return whether it was neither before."""
        return self._pending.pop(pending.unique, None) is not None

    def late(self) -> list[Pending]:
        """The requests that have taken too long."""
        if not self._timeout:
            return []
        latest = time.monotonic() - self._timeout
        return [pending for pending in list(self._pending.values()) if pending.since <= latest]

    @property
    def interval(self) -> float:
        """How often to look for late ones, in seconds."""
        return min(max(self._timeout / 10, 0.1), 5.0) if self._timeout else 5.0


class HungReads:
    """Reads that were given up and still hang, so that reads that would hang too are not tried."""

    def __init__(self) -> None:
        self._late: dict[int, tuple[Pending, frozenset[str]]] = {}
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._late)

    def add(self, late: Pending, inputs: frozenset[str]) -> None:
        """Record one, unless it has come back already, and the names of the inputs it reads."""
        with self._lock:
            if not late.is_back:
                self._late[late.unique] = late, inputs

    def remove(self, late: Pending) -> None:
        """Record that one has come back after all, which may be before it is added."""
        with self._lock:
            late.is_back = True
            self._late.pop(late.unique, None)

    def blocks(self, node: int, offset: int, size: int, inputs: frozenset[str]) -> bool:
        """Whether to give up a read at once.

        Either it contains a whole read that hangs; smaller reads are tried, to find out which bytes
        hang. Or so many reads wait for one of its inputs that one more would only cost a thread.
        """
        late = list(self._late.values())
        waiting: Counter[str] = Counter()
        for one, names in late:
            waiting.update(names)
            end = one.offset + one.size
            if one.node == node and offset <= one.offset < end <= offset + size:
                return True
        return any(waiting[name] >= _MOST_HUNG for name in inputs)


def within_kernels_timeout(timeout: float, settings: Path = _SETTINGS) -> float:
    """Shorten a timeout to what the kernel allows: it ends the mount when a request takes longer.

    Args:
        timeout: Seconds that a read may take; 0 for any time.
        settings: Where the kernel's limits are (Linux 6.15; fs/fuse/sysctl.c).

    Returns:
        At most half of the kernel's limit, as the kernel checks only every 15 seconds; ``timeout``
        if there is no limit.
    """
    most = _setting(settings / "max_request_timeout") or (
        0 if timeout else _setting(settings / "default_request_timeout")
    )
    return min(timeout or most, most / 2) if most else timeout


def _setting(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
