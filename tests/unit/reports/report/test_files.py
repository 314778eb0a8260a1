"""The report as files of a tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.dead_machines import bare_machine
from vmcorefs.api import open_capture
from vmcorefs.config import CaptureConfig, make_config
from vmcorefs.errors import UnsupportedError
from vmcorefs.reports.report import files, gather
from vmcorefs.reports.report.files import report_files


def _config(directory: Path) -> CaptureConfig:
    saved = bare_machine().save(directory)
    return make_config([saved.ram], memory_map=saved.iomem)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reasons, mostly none, why each report that is made goes without drgn."""
    reasons: list[str] = []
    make = gather.make_report

    def counted(image: object, *, without_drgn: str = "") -> object:
        reasons.append(without_drgn)
        return make(image, without_drgn=without_drgn)  # type: ignore[arg-type]

    monkeypatch.setattr(gather, "make_report", counted)
    return reasons


def test_nothing_is_made_until_one_is_read_and_then_once(tmp_path: Path, made: list[str]) -> None:
    with open_capture(_config(tmp_path), add=report_files) as capture:
        layout = json.loads(capture["layout.json"].pread(1 << 20, 0))
        assert "report.txt" in capture.files
        assert "report.txt" not in layout["files"]
        assert made == []
        text = capture["report.txt"].pread(1 << 20, 0).decode()
        assert "no kernel to ask: there is no VMCOREINFO note" in text
        report = json.loads(capture["report.json"].pread(1 << 20, 0))
        assert report["schema"] == 1
        assert made == [""]


def test_where_memory_is_short_drgn_takes_none(
    tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "available_memory", lambda: 64 << 20)
    with open_capture(_config(tmp_path), add=report_files) as capture:
        assert capture["report.txt"].size
    assert made == ["this machine has too little memory left to follow the kernel's structures"]


def test_modules_that_a_daemon_can_no_longer_read_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_image: object, **_: object) -> None:
        raise ModuleNotFoundError("No module named 'vmcorefs.reports.report.walk'")

    monkeypatch.setattr(gather, "make_report", lost)
    with (
        open_capture(_config(tmp_path), add=report_files) as capture,
        pytest.raises(UnsupportedError, match=r"walk'; `vmcorefs report` prints the same$"),
    ):
        _ = capture["report.txt"].size
