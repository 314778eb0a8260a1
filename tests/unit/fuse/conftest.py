"""A clock whose time a test passes: no machine is too busy for it."""

from __future__ import annotations

import time

import pytest

from vmcorefs.fuse import deadlines, switch


class Clock:
    """What ``time`` is to the modules that count seconds."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.sleep = time.sleep

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (deadlines, switch):
        monkeypatch.setattr(module, "time", clock)
    return clock
