"""Progress bars on standard error, by tqdm.

Each is shown only while its work goes on, and only on a terminal. tqdm is imported with the first
bar: otherwise a daemon would keep 3.6 MiB for a bar that is never shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from vmcorefs.system.progress import Progress
from vmcorefs.system.terminal import printable

if TYPE_CHECKING:
    from tqdm import tqdm

    Bar = tqdm[Any]

_DELAY = 1.0
"""Seconds that work may take without a bar."""


def make_bar(what: str, unit: str, total: int | None = None, *, leave: bool = False) -> Bar:
    """Show a bar, wherever standard error goes.

    Args:
        what: A name for the work.
        unit: The unit of the count; bytes ("B") are shown as KiB, MiB ...
        total: The total count, if it is known.
        leave: Whether the bar stays when the work is done.
    """
    from tqdm import tqdm  # noqa: PLC0415  # see above

    tqdm.monitor_interval = 0  # no extra thread: a daemon could not drop that one's privileges
    in_bytes = unit == "B"
    return tqdm(
        desc=printable(what),
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
    """Hide the bars while something else is written to standard error."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    from tqdm import tqdm  # noqa: PLC0415

    return tqdm.external_write_mode(sys.stderr)
