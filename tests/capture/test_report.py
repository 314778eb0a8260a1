"""The report that is made in the capture kernel: whatever becomes of it, the dump is saved."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.dead_machines import bare_machine
from vmcorefs.api import Capture, open_capture
from vmcorefs.capture.run import report as apart
from vmcorefs.capture.run.report import report_apart
from vmcorefs.config import make_config
from vmcorefs.errors import UnsupportedError
from vmcorefs.reports.report import gather


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    saved = bare_machine().save(tmp_path)
    with open_capture(make_config([saved.ram], memory_map=saved.iomem)) as opened:
        yield opened


def test_a_report_is_made_without_drgn(capture: Capture) -> None:
    made = report_apart(capture.image)
    assert list(made) == ["report.txt", "report.json"]
    (missed,) = json.loads(made["report.json"])["unknown"][1:]
    assert missed["why"] == "no kernel to ask: there is no VMCOREINFO note"
    assert missed["why"] in made["report.txt"].decode()


def _hang(*_: object, **__: object) -> None:
    time.sleep(60)


def _take_much(*_: object, **__: object) -> None:
    bytearray(256 << 20)


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does that has no memory left


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (_hang, "no report: it was not made within 0.5 s"),
        (_take_much, "no report: what makes it ended with status 1"),
        (_fail, "no report: what makes it ended with status 1"),
        (_die, "no report: what makes it ended with status -9"),
    ],
)
def test_one_that_cannot_be_made_is_an_error_within_its_time(
    capture: Capture, monkeypatch: pytest.MonkeyPatch, trouble: object, why: str
) -> None:
    monkeypatch.setattr(gather, "make_report", trouble)
    children: list[int] = []
    fork = os.fork

    def remembered() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", remembered)
    if trouble is _hang:
        monkeypatch.setattr(apart, "SECONDS", 0.5)
    with pytest.raises(UnsupportedError, match=f"^{why}$"):
        report_apart(capture.image)
    with pytest.raises(ProcessLookupError):  # nothing is left of it
        os.kill(children.pop(), 0)


def test_one_that_is_too_long_is_an_error(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "MOST", 100)
    with pytest.raises(UnsupportedError, match=r"^no report: it has more than 0 MiB$"):
        report_apart(capture.image)


def test_one_that_cannot_be_ended_is_left_alone(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as one that waits for a disk in state D
    ended: list[int] = []
    monkeypatch.setattr(gather, "make_report", _hang)
    monkeypatch.setattr(apart, "SECONDS", 0.1)
    monkeypatch.setattr(apart, "MERCY", 0.1)
    monkeypatch.setattr(os, "kill", lambda child, _number: ended.append(child))
    with pytest.raises(UnsupportedError, match=r"^no report: it was not made within 0\.1 s$"):
        report_apart(capture.image)
    monkeypatch.undo()
    for child in ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert len(ended) == 1
