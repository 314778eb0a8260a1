"""How far a dump is, for a journal and a terminal."""

from __future__ import annotations

import signal
import time

import pytest

from vmcorefs.errors import StoppedError
from vmcorefs.save.progress import Progress
from vmcorefs.save.stop import Stop

MIB = 256
"""Pages of it."""


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def _watch(said: list[str] | None, *, bar: bool = False) -> Progress:
    say = said.append if said is not None else None
    return Progress("vmcore", 4096, Stop(), bar=bar, say=say)


def test_a_journal_gets_a_line_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    said: list[str] = []
    progress = _watch(said)
    for now, done in (
        (1000, 0),
        (1001, 10),
        (1004.9, 400),
        (1005, 40 * MIB),
        (1007, 60 * MIB),
        (1010, 25600),
    ):
        clock.now = now
        progress.pages(done, 400 * MIB)
    assert said == [
        "vmcore: 10 %, 10240 of 102400 pages, 8 MiB/s, 45 s left",
        "vmcore: 25 %, 25600 of 102400 pages, 10 MiB/s, 30 s left",
    ]


def test_looking_at_pages_is_progress_too_and_not_part_of_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    said: list[str] = []
    progress = _watch(said)
    for now, page in ((1004, 1000), (1006, 2000), (1020, 8000)):
        clock.now = now
        progress.looked(page, 8000)
    clock.now = 1030
    progress.pages(0, 8 * MIB)
    clock.now = 1036
    progress.pages(6 * MIB, 8 * MIB)
    assert said == [
        "vmcore: looking at pages, 25 %",
        "vmcore: looking at pages, 100 %",
        "vmcore: 0 %, 0 of 2048 pages, 0 bytes/s",
        "vmcore: 75 %, 1536 of 2048 pages, 1 MiB/s, 2 s left",
    ]


def test_what_is_lost_is_said_at_once_and_then_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    said: list[str] = []
    progress = _watch(said)
    progress.pages(0, 2 * MIB)
    progress.lost(0x5000, 4096, "Input/output error")
    progress.lost(0x6000, 4096, "Input/output error")
    progress.lost(0x9000, 4096, "Input/output error")
    clock.now += 5
    progress.pages(MIB, 2 * MIB)
    assert said == [
        "vmcore: cannot read 4096 bytes at 0x5000: Input/output error; continuing",
        "vmcore: 50 %, 256 of 512 pages, 204.8 KiB/s, 5 s left, 12 KiB lost",
    ]
    assert [(loss.start, loss.size) for loss in progress.losses.listed] == [
        (0x5000, 0x2000),
        (0x9000, 0x1000),
    ]


def test_a_terminal_gets_a_bar_and_no_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    said: list[str] = []
    progress = _watch(said, bar=True)
    clock.now += 60
    progress.pages(MIB, 4 * MIB)
    assert progress._bar is not None
    progress._bar.refresh()
    progress.close()
    assert said == []
    shown = capsys.readouterr().err
    assert "vmcore:" in shown
    assert "1.00M/4.00M" in shown


def test_quiet_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    progress = _watch(None)
    progress.lost(0x5000, 4096, "Input/output error")
    clock.now += 60
    progress.pages(MIB, 4 * MIB)
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_millions_of_losses_are_counted_and_not_all_listed() -> None:
    progress = _watch(None)
    for number in range(5000):
        progress.lost(number * 0x2000, 4096, "Input/output error")
    assert progress.losses.size == 5000 * 4096
    assert len(progress.losses.listed) == 1000


def test_a_signal_is_an_error_at_the_next_step_and_a_second_one_kills() -> None:
    with Stop() as stop:
        progress = Progress("vmcore", 4096, stop, bar=False, say=None)
        progress.pages(1, 8)
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with pytest.raises(StoppedError, match="stopped by SIGTERM"):
            progress.pages(2, 8)
    assert progress.how_far() == "after 1 of 8 pages (12 %)"


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, before)
