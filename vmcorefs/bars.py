"""Progress bars on standard error: tqdm's, as this program needs them.

Each is there only while its work goes on, and only on a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["byte_bar", "share_bar", "tqdm"]

tqdm.monitor_interval = 0  # no thread of its own: a daemon could not take its privileges away

Added = Callable[[int], None]
"""``added(count)``: how much more is done."""

Reached = Callable[[int, int], None]
"""``reached(done, total)``: how much is done of how much."""

_ONLY_ON_A_TERMINAL = None
"""What tqdm's ``disable`` says for that."""


@contextmanager
def byte_bar(total: int, what: str) -> Iterator[Added]:
    """Show how much of ``total`` bytes is done."""
    with tqdm(
        total=total,
        desc=what,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=_ONLY_ON_A_TERMINAL,
    ) as bar:

        def added(count: int) -> None:
            bar.update(count)

        yield added


@contextmanager
def share_bar(what: str, unit: str) -> Iterator[Reached]:
    """Show how far work is that says itself how much there is of it, if it takes a second.

    Args:
        what: What is done.
        unit: What is counted; bytes ("B") are shown as KiB, MiB ...
    """
    in_bytes = unit == "B"
    with tqdm(
        desc=what,
        unit=unit,
        unit_scale=in_bytes,
        unit_divisor=1024 if in_bytes else 1000,
        disable=_ONLY_ON_A_TERMINAL,
        delay=1,
        leave=False,
    ) as bar:

        def reached(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield reached
