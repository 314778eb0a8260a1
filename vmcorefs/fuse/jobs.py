"""Work that may take long or hang, in threads: one per file, however many wait for it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec
import trio

T = TypeVar("T")
_MOST = 256
"""Threads at once; there is at most one for each file and kind of work."""


class _Job(msgspec.Struct, Generic[T]):
    done: trio.Event = msgspec.field(default_factory=trio.Event)
    value: T | None = None
    error: Exception | None = None


def is_shortage(error: BaseException) -> bool:
    """Whether an error, or each of a group, means lack of memory, also for starting a thread."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_shortage(one) for one in error.exceptions)
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)


class Jobs(Generic[T]):
    """Runs a function in a thread, once for all callers that ask while it runs."""

    def __init__(self, timeout: float) -> None:
        """Start with none.

        Args:
            timeout: Seconds that a caller waits; 0 for as long as it takes.
        """
        self._timeout = timeout or float("inf")
        self._jobs: dict[int, _Job[T]] = {}
        self._limiter: trio.CapacityLimiter | None = None

    async def run(self, key: int, work: Callable[[], T]) -> T:
        """Wait for ``work``, or for work already running for the same ``key``.

        Raises:
            TimeoutError: if it takes too long. It goes on, and may be done at a later call.
        """
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job()
            trio.lowlevel.spawn_system_task(self._do, key, job, work)
        with trio.move_on_after(self._timeout):
            await job.done.wait()
        if not job.done.is_set():
            raise TimeoutError(f"not done after {self._timeout:g} s")
        if job.error is not None:
            raise job.error
        return cast("T", job.value)

    async def _do(self, key: int, job: _Job[T], work: Callable[[], T]) -> None:
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(_MOST)
        try:
            # abandoned at the end: a daemon that must exit must not wait for a disk that hangs
            job.value = await trio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._limiter
            )
        except Exception as error:  # noqa: BLE001  # it is raised where the result is awaited
            job.error = MemoryError(str(error)) if is_shortage(error) else error
        finally:
            del self._jobs[key]
            job.done.set()
