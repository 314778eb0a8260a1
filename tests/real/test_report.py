"""What ``vmcorefs report`` says of machines that panicked, against what their consoles showed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.real.marks import REAL, stopped
from tests.real.trees import vmcorefs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture, Snapshot

pytestmark = REAL


def report(*arguments: str | Path) -> dict[str, Any]:
    told = json.loads(vmcorefs("report", *arguments, "--json"))
    assert isinstance(told, dict)
    return told


def test_what_the_machine_died_of(capture: Capture) -> None:
    told = report(capture.config)["crash"]
    assert told["title"] == "kernel panic: sysrq triggered crash"
    assert told["class"] == "DoS"
    assert told["panic"] == "Kernel panic - not syncing: sysrq triggered crash"
    assert not told["corrupted"]
    # the stack is there, as the console had it
    console = (capture.directory / "serial").read_text(errors="replace")
    assert any(line.startswith(" sysrq_handle_crash+0x") for line in told["lines"])
    assert [line for line in told["lines"] if line not in console] == []


def test_a_log_alone_says_the_same(capture: Capture) -> None:
    # no other crash is in it
    by_log = report("--log", capture.directory / "serial")
    for key, value in report(capture.config)["crash"].items():
        if key != "lines":
            assert by_log[key] == value, key


@stopped("none", "arm64")
def test_a_machine_that_was_stopped_died_of_nothing(snapshot: Snapshot) -> None:
    told = report(snapshot.config)["crash"]
    assert told["title"] == ""
    assert told["reason"] == "no crash is reported in the log"
