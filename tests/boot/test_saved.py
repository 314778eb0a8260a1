"""A machine panics, its capture kernel saves the memory, and the machine goes back to work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.boot.crashes import Outcome, saved_on_root
from tests.boot.marks import looks_at
from tests.lab import console
from tests.lab.capture import debug_vmlinux
from tests.real import tools

pytestmark = looks_at(saved_on_root)


@pytest.fixture
def truth(outcome: Outcome) -> Path:
    """The copy of /proc/vmcore that was made in the same boot."""
    size = int(console.expect(outcome.said, "VMCORE"))
    with (outcome.directory / "vmcore").open("r+b") as file:
        file.truncate(size)
    return outcome.directory / "vmcore"


def test_the_capture_kernel_reboots(outcome: Outcome) -> None:
    assert outcome.end == "guest-reset"
    assert "vmcorefs: done; now: reboot" in outcome.panicked
    assert "NOT SAVED" not in outcome.panicked


def test_the_mounted_vmcore_is_proc_vmcore(outcome: Outcome) -> None:
    assert console.event(outcome.said, "EQUAL") is not None, outcome.said


def test_the_machine_comes_up_again_with_a_dump(outcome: Outcome, truth: Path) -> None:
    (dump,) = outcome.files("/var/crash").iterdir()
    assert json.loads((dump / "summary.json").read_text())["complete"] is True
    assert (dump / "dmesg").read_text() == tools.vmcore_dmesg(truth)


def test_crash_and_makedumpfile_answer_on_the_dump_as_on_proc_vmcore(
    outcome: Outcome, truth: Path, tmp_path: Path
) -> None:
    (directory,) = outcome.files("/var/crash").iterdir()
    dump = directory / "vmcore"
    vmlinux = debug_vmlinux("6.1")
    commands = ("sys", "bt -a", "ps", "log", "mod", "kmem -i", "rd -p 0x1000 16")
    assert tools.crash(vmlinux, dump, *commands) == tools.crash(vmlinux, truth, *commands)
    of_dump = tools.makedumpfile(dump, tmp_path / "dump", "-c", "-d", "31")
    of_truth = tools.makedumpfile(truth, tmp_path / "truth", "-c", "-d", "31")
    assert of_dump.read_bytes() == of_truth.read_bytes()
