"""How far a dump is: a bar on a terminal, a line now and then in a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from vmcorefs.core.space.units import format_size
from vmcorefs.output.losses import Losses
from vmcorefs.save.stop import Stop
from vmcorefs.system.bars import make_bar

_SECONDS_PER_LINE = 5.0


class Progress:
    """The ``Observer`` of a save.

    Attributes:
        done: Pages that have been dealt with.
        total: Pages that are to be dealt with; 0 until that is known.
        losses: Bytes that could not be read.
        needs: See ``Observer.needs``.
    """

    def __init__(
        self,
        name: str,
        page_size: int,
        stop: Stop,
        *,
        bar: bool,
        say: Callable[[str], None] | None,
        step: Callable[[], None] = lambda: None,
        needs: Callable[[Sequence[int], str], None] = lambda _sizes, _what: None,
    ) -> None:
        """Watch the writing of one dump.

        Args:
            name: What the dump is called.
            page_size: Bytes in a page.
            stop: Checked at every step.
            bar: Show a bar on standard error.
            say: Called with a line every few seconds, and at the first loss; None to be quiet.
            step: Called as pages are written; what it raises ends the save.
            needs: See ``Observer.needs``.
        """
        self.done = self.total = 0
        self.losses = Losses()
        self._name = name
        self._page_size = page_size
        self._stop = stop
        self._say = say
        self._step = step
        self.needs = needs
        self._start: float | None = None  # of the writing: the rate is of that alone
        self._last_line = time.monotonic()
        self._bar = make_bar(name, "B") if bar else None

    def check(self) -> None:
        """Check whether to stop.

        Raises:
            StoppedError: if a signal has asked for it.
        """
        self._stop.check()

    def pages(self, done: int, total: int) -> None:
        """See ``Observer.pages``.

        Raises:
            StoppedError: if a signal has asked for it.
        """
        self.check()
        self._step()
        self.done, self.total = done, total
        if self._start is None:
            self._start = time.monotonic()
            if self._bar is not None:
                self._bar.reset()
                self._bar.set_description_str(self._name, refresh=False)
        if self._bar is not None:
            self._bar.total = total * self._page_size
            self._bar.update(done * self._page_size - self._bar.n)
        elif self._is_time_for_a_line():
            self._tell(self._line(time.monotonic() - self._start))

    def looked(self, done: int, total: int) -> None:
        """The kinds of ``done`` of ``total`` pages are known.

        Raises:
            StoppedError: if a signal has asked for it.
        """
        self._prepare("looking at pages", done, total)

    def compared(self, done: int, total: int) -> None:
        """See ``Observer.compared``.

        Raises:
            StoppedError: if a signal has asked for it.
        """
        self._prepare("comparing what is there with the image", done, total)

    def _prepare(self, what: str, done: int, total: int) -> None:
        self.check()
        line = f"{self._name}: {what}, {100 * done // max(total, 1)} %"
        if self._bar is not None:
            self._bar.set_description_str(line)
        elif self._is_time_for_a_line():
            self._tell(line)

    def lost(self, paddr: int, size: int, reason: str) -> None:
        """See ``Observer.lost``."""
        if not self.losses.size:
            self._tell(
                f"{self._name}: cannot read {size} bytes at {paddr:#x}: {reason}; continuing"
            )
        self.losses.add(paddr, size, reason)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{format_size(self.losses.size)} lost", refresh=False)

    def restart(self) -> None:
        """Begin again: the dump is thrown away, and written at another level."""
        self.done = self.total = 0
        self.losses = Losses()
        self._start = None

    def _is_time_for_a_line(self) -> bool:
        now = time.monotonic()
        due = self._say is not None and now - self._last_line >= _SECONDS_PER_LINE
        if due:
            self._last_line = now
        return due

    def _tell(self, line: str) -> None:
        if self._say is not None:
            self._say(line)

    def _line(self, seconds: float) -> str:
        rate = self.done * self._page_size / seconds if seconds else 0.0
        pages = self.total - self.done
        left = f", {pages * self._page_size / rate:.0f} s left" if rate else ""
        lost = f", {format_size(self.losses.size)} lost" if self.losses.size else ""
        percent = 100 * self.done // self.total if self.total else 0
        return (
            f"{self._name}: {percent} %, {self.done} of {self.total} pages,"
            f" {format_size(int(rate))}/s{left}{lost}"
        )

    def how_far(self) -> str:
        """How far it is, for the message of a save that was stopped."""
        if not self.total:
            return "before the first page"
        return f"after {self.done} of {self.total} pages ({100 * self.done // self.total} %)"

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
