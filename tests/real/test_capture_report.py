"""The report beside a dump's log, as the capture kernel saves them from /proc/vmcore."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.marks import REAL, only
from vmcorefs.capture.run.saver import save
from vmcorefs.capture.settings import KeepSettings, Settings, TargetSettings
from vmcorefs.reports.report import gather

if TYPE_CHECKING:
    from tests.lab.capture import Capture

pytestmark = REAL


def _save(capture: Capture, directory: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    settings = Settings(
        target=TargetSettings(directory=str(directory)), keep=KeepSettings(free="1M")
    )
    saved = save(settings, str(capture.vmcore), said.append)
    return Path(saved.path), said


@only("kexec")
def test_it_is_saved_before_the_dump(capture: Capture, tmp_path: Path) -> None:
    dump, said = _save(capture, tmp_path / "crash")
    report = json.loads((dump / "report.json").read_text())

    assert report["crash"]["title"] == "kernel panic: sysrq triggered crash"
    assert report["died"]["release"] == capture.text("uname").split()[2]
    assert report["why"]["panicked"] is True
    (missed,) = report["unknown"]
    assert missed["why"].startswith("made in the capture kernel, in little memory; ")
    assert "sysrq triggered crash" in (dump / "report.txt").read_text()
    assert "drgn" not in sys.modules or report["cpus"] == []
    order = [next(n for n, line in enumerate(said) if f"/{name}" in line) for name in _ORDER]
    assert order == sorted(order)


_ORDER = ("dmesg:", "report.txt:", "report.json:", "vmcore:")


@only("kexec")
def test_a_report_that_fails_costs_no_dump(
    capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(gather, "make_report", fail)
    dump, said = _save(capture, tmp_path / "crash")
    assert "warning: no report: what makes it ended with status 1" in said
    assert sorted(path.name for path in dump.iterdir()) == [
        *("dmesg", "layout.json", "summary.json", "vmcore")
    ]
    assert json.loads((dump / "summary.json").read_text())["complete"] is True
