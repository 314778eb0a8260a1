"""Progress bars on standard error: tqdm's, as this program needs them.

Each is there only while its work goes on, and only on a terminal. tqdm is imported for the first of
them: a daemon would keep 3.6 MiB for a bar that nobody has seen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from vmcorefs.system.progress import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

    Bar = tqdm[Any]

_DELAY = 1.0
"""Seconds that work may take without a bar."""


def make_bar(what: str, unit: str, total: int | None = None, *, leave: bool = False) -> Bar:
    """Show a bar, wherever standard error goes.

    Args:
        what: What is done.
        unit: What is counted; bytes ("B") are shown as KiB, MiB ...
        total: How much there is, if that is known.
        leave: Whether it stays when it is done.
    """
    from tqdm import tqdm  # noqa: PLC0415  # see above

    tqdm.monitor_interval = 0  # no thread of its own: a daemon could not take its privileges away
    in_bytes = unit == "B"
    return tqdm(
        desc=what,
        unit=unit,
        total=total,
        unit_scale=in_bytes,
        unit_divisor=1024 if in_bytes else 1000,
        leave=leave,
    )


@contextmanager
def progress_bar(what: str, unit: str = "B", *, at_once: bool = False) -> Iterator[Progress]:
    """Show how far work is, if it takes a second.

    Args:
        what: What is done.
        unit: As for ``make_bar``.
        at_once: Show it from the first step on, and leave it when the work is done.
    """
    wanted, due = sys.stderr.isatty(), time.monotonic() + (0 if at_once else _DELAY)
    bar: Bar | None = None

    def reached(done: int, total: int) -> None:
        nonlocal bar
        if bar is None and wanted and time.monotonic() >= due:
            bar = make_bar(what, unit, total, leave=at_once)
        if bar is not None:
            bar.total = total
            bar.update(done - bar.n)

    try:
        yield reached
    finally:
        if bar is not None:
            bar.close()


def without_bars() -> AbstractContextManager[None]:
    """Take the bars away for as long as something else is written to standard error."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    from tqdm import tqdm  # noqa: PLC0415

    return tqdm.external_write_mode(sys.stderr)
