"""Work in threads, results in order, and never more than a few of them at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[Result]:
    """``map`` by ``threads`` threads; what is taken out was done in the order of ``items``.

    No more than two items beside those that the threads work on are waiting or done and not taken,
    so memory does not grow with their number. With one thread it is the caller's own.

    Raises:
        BaseException: what ``work`` raises, when its result would be taken.
    """
    if threads == 1:
        yield from map(work, items)
        return
    # here: a capture kernel has one CPU, and does without
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    pool = ThreadPoolExecutor(threads, thread_name_prefix="save")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= threads + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
