"""A machine panics, its capture kernel saves the memory, and the machine goes back to work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.boot.crashes import Outcome, saved_on_root
from tests.boot.dumps import assert_dump_is_as_good_as
from tests.boot.marks import BOOT, looks_at
from tests.lab import console
from tests.real import tools

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [*BOOT, looks_at(saved_on_root)]


def test_the_capture_kernel_reboots(outcome: Outcome) -> None:
    assert outcome.end == "guest-reset"
    assert "vmcorefs: done; now: reboot" in outcome.panicked
    assert "NOT SAVED" not in outcome.panicked


def test_the_mounted_vmcore_is_proc_vmcore(outcome: Outcome) -> None:
    assert console.event(outcome.said, "EQUAL") is not None, outcome.said


def test_the_tree_is_that_of_any_image(outcome: Outcome) -> None:
    tree = console.sections(outcome.said)["tree"]
    sizes = {line.split()[-1]: int(line.split()[4]) for line in tree.splitlines()[1:]}
    assert {"vmcore", "oldmem", "crash_notes", "dmesg", "kcore"} <= set(sizes)
    assert sizes["vmcore"] == int(console.expect(outcome.said, "VMCORE"))
    assert sizes["vmcore"] == outcome.truth.stat().st_size
    seen = outcome.files("/var/lab")
    assert (seen / "dmesg").read_text() == tools.vmcore_dmesg(outcome.truth)
    notes = (seen / "crash_notes").read_bytes()
    with outcome.truth.open("rb") as file:
        assert notes in file.read(1 << 20)
    assert len(notes) == sizes["crash_notes"] > 0


def test_the_machine_comes_up_again_with_a_dump(outcome: Outcome, tmp_path: Path) -> None:
    (directory,) = outcome.files("/var/crash").iterdir()
    assert json.loads((directory / "summary.json").read_text())["complete"] is True
    assert (directory / "dmesg").read_text() == tools.vmcore_dmesg(outcome.truth)
    assert_dump_is_as_good_as(outcome.truth, directory / "vmcore", tmp_path)
