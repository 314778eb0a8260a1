"""Bytes that could not be read."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace


class Loss(msgspec.Struct, frozen=True):
    """Bytes that could not be read.

    Attributes:
        paddr: Physical address of the first.
        size: How many.
        reason: Why they could not be read.
    """

    paddr: int
    size: int
    reason: str

    @property
    def end(self) -> int:
        """Physical address behind the last."""
        return self.paddr + self.size


def add_loss(losses: list[Loss], loss: Loss) -> None:
    """Add one at the end; what follows the last one becomes part of it, whatever its reason."""
    if losses and losses[-1].end == loss.paddr:
        losses[-1] = replace(losses[-1], size=losses[-1].size + loss.size)
    else:
        losses.append(loss)
