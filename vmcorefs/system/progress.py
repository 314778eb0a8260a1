"""How those who wait are told how far work is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""``progress(done, total)``, of bytes or pages, at each step; what it raises ends the work."""


def untold(_done: int, _total: int) -> None:
    """Tell nobody."""
