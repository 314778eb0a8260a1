"""Stopping where it does no harm when a signal asks for that."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

from vmcorefs.errors import StoppedError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """While it is entered, a signal is remembered; ``check`` raises then. A second one kills.

    SIGHUP is what kdump-utils ends its capture service with (99kdumpbase/kdump-capture.service).
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def check(self) -> None:
        """Check whether to stop.

        Raises:
            StoppedError: if a signal has come.
        """
        if self._asked is not None:
            by = signal.Signals(self._asked)
            raise StoppedError(f"stopped by {by.name}", is_interrupt=by == signal.SIGINT)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        signal.signal(number, signal.SIG_DFL)

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            # what is ignored stays so: nohup(1)
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
