"""The kernel's lists of waiters: rings, in which one element is the list's head and no waiter's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import drgn

from vmcorefs.reports.report.walk.absent import ABSENT

_MAX_ELEMENTS: Final = 1 << 16
"""More than this many waiters are not looked at, in all rings together."""


class Rings:
    """Finds heads; an element that was passed once is not gone past again, as many wait at once."""

    def __init__(self) -> None:
        self._heads: dict[int, drgn.Object | None] = {}

    def head_of(
        self, first: drgn.Object, is_waiter: Callable[[drgn.Object], bool]
    ) -> drgn.Object | None:
        """The head of a waiter's ring; None if it is no ring. The errors are drgn's.

        Args:
            first: ``struct list_head *`` of the waiter.
            is_waiter: Whether another element is a waiter's.
        """
        passed, head = [int(first)], None
        element, before = first.next.read_(), first
        while len(self._heads) + len(passed) < _MAX_ELEMENTS:
            if int(element) in self._heads:
                head = self._heads[int(element)]
                break
            if element == first or element.prev != before:
                break
            if not _holds(is_waiter, element):
                head = element
                break
            passed.append(int(element))
            element, before = element.next.read_(), element
        self._heads.update(dict.fromkeys(passed, head))
        return head


def _holds(is_waiter: Callable[[drgn.Object], bool], element: drgn.Object) -> bool:
    try:
        return is_waiter(element)
    except ABSENT:
        return False
