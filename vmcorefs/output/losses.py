"""Bytes that could not be read: the rest is written, these are listed, and nothing is complete."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from vmcorefs.core.space.units import format_range, format_size

_MAX_LISTED = 1000
"""Ranges that are listed one by one; a report is no place for a million."""

_SHOWN = 20
"""Those that people are shown."""


class Loss(msgspec.Struct, frozen=True):
    """Bytes that could not be read.

    Attributes:
        start: Where the first is: the physical address, or the offset in a file of the tree.
        size: How many.
        reason: Why they could not be read.
    """

    start: int
    size: int
    reason: str

    @property
    def end(self) -> int:
        """Where the one behind the last is."""
        return self.start + self.size


def add_loss(losses: list[Loss], loss: Loss) -> None:
    """Add one at the end; what follows the last one becomes part of it, whatever its reason."""
    if losses and losses[-1].end == loss.start:
        losses[-1] = replace(losses[-1], size=losses[-1].size + loss.size)
    else:
        losses.append(loss)


class Losses:
    """All bytes that could not be read; neighbours are one.

    Attributes:
        size: How many bytes.
        listed: The first ``_MAX_LISTED`` ranges.
    """

    def __init__(self) -> None:
        self.size = 0
        self.listed: list[Loss] = []

    def add(self, start: int, size: int, reason: str) -> None:
        """One more."""
        self.size += size
        if len(self.listed) < _MAX_LISTED or self.listed[-1].end == start:
            add_loss(self.listed, Loss(start, size, reason))

    def rows(self, start: str) -> list[dict[str, object]]:
        """Those that are listed, for programs; ``start`` is what their start is called."""
        return [{start: one.start, "size": one.size, "reason": one.reason} for one in self.listed]

    def lines(self, rest: str = "...") -> Iterator[str]:
        """The first of them for people, and ``rest`` if there are more."""
        for loss in self.listed[:_SHOWN]:
            yield f"lost    {format_range(loss.start, loss.end)}: {loss.reason}"
        if len(self.listed) > _SHOWN:
            yield f"lost    {rest}"

    def describe(self, name: str, where: str) -> str:
        """What is wrong with an output that is not complete, in one line.

        Args:
            name: The output.
            where: What is said of the bytes.
        """
        first = self.listed[0]
        return (
            f"{name}: {format_size(self.size)} could not be read and {where}, first"
            f" {format_range(first.start, first.end)}: {first.reason}"
        )
