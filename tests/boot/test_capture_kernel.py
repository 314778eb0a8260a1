"""A machine panics, its capture kernel saves the memory, and the machine goes back to work.

Whatever goes wrong there, it ends as the settings say, and in time. For a failure they say
"poweroff": the hardware can tell that from the reboot after a success.

All in one file: pytest-xdist gives a file to one worker, and the crashes are made two at a time as
it is. Those that take longest come first.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from tests.boot.crashes import (
    Outcome,
    left_too_little,
    page_unreadable,
    reserved_far_too_little,
    saved_by_initramfs,
    saved_on_root,
    saver_killed,
    target_full,
    target_missing,
    time_over,
)
from tests.boot.dumps import assert_dump_is_as_good_as
from tests.boot.machine import CPUS
from tests.boot.marks import BOOT, looks_at
from tests.lab import console
from tests.real import tools

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = BOOT

_NOT_SAVED = "vmcorefs: THE CRASHED KERNEL'S MEMORY WAS NOT SAVED (see above); now: poweroff"

_FILES = {"dmesg", "vmcore.triage", "vmcore", "layout.json", "summary.json"}
_REPORT = {"report.txt", "report.json"}
"""What is there if it was made within a minute, which emulation may take for a second."""


def dump_in(directory: Path) -> Path:
    (dump,) = (path for path in directory.iterdir() if re.match("[0-9]{4}-", path.name))
    return dump


def assert_ended_as_configured(outcome: Outcome, seconds: float) -> None:
    assert _NOT_SAVED in outcome.panicked
    assert outcome.end == "guest-shutdown"
    assert outcome.seconds < seconds


def assert_rebooted(outcome: Outcome) -> None:
    assert outcome.end == "guest-reset"
    assert "vmcorefs: done; now: reboot" in outcome.panicked


def assert_dump_is_whole(outcome: Outcome, directory: Path, scratch: Path) -> None:
    assert json.loads((directory / "summary.json").read_text())["complete"] is True
    assert (directory / "dmesg").read_text() == tools.vmcore_dmesg(outcome.truth)
    assert_dump_is_as_good_as(outcome.truth, directory / "vmcore", scratch)


def assert_log_was_saved(outcome: Outcome, dump: Path) -> None:
    """The log goes first, then the report: they are there even where the rest is not."""
    log = (dump / "dmesg").read_text()
    assert "sysrq: Trigger a crash" in log
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    if "no report: it was not made within" in outcome.panicked:
        # QEMU emulates the processor here: beside other tests, a second may take a minute
        assert not (dump / "report.json").exists()
        return
    report = json.loads((dump / "report.json").read_text())
    assert report["crash"]["title"] == "kernel panic: sysrq triggered crash"
    assert "sysrq triggered crash" in (dump / "report.txt").read_text()


def report_of(dump: Path) -> dict[str, Any]:
    """What ``vmcorefs report --json`` says of a dump: with drgn, of the whole machine."""
    said = tools.run([sys.executable, "-m", "vmcorefs", "report", dump, "--json"], dump)
    report: dict[str, Any] = json.loads(said)
    assert report["crash"]["title"] == "kernel panic: sysrq triggered crash"
    assert len(report["cpus"]) == CPUS
    assert report["memory"]["processes"]
    return report


@looks_at(saved_on_root)
def test_the_capture_kernel_reboots(outcome: Outcome) -> None:
    assert_rebooted(outcome)
    assert "NOT SAVED" not in outcome.panicked


@looks_at(saved_on_root)
def test_the_mounted_vmcore_is_proc_vmcore(outcome: Outcome) -> None:
    assert console.event(outcome.said, "EQUAL") is not None, outcome.said


@looks_at(saved_on_root)
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


@looks_at(saved_on_root)
def test_the_machine_comes_up_again_with_a_dump(outcome: Outcome, tmp_path: Path) -> None:
    (directory,) = outcome.files("/var/crash").iterdir()
    assert_dump_is_whole(outcome, directory, tmp_path)


@looks_at(saved_on_root)
def test_what_a_report_needs_is_saved_and_nothing_else(outcome: Outcome) -> None:
    """With ``level = "triage"``."""
    (directory,) = (outcome.files("/var/lab") / "triage").iterdir()
    assert {path.name for path in directory.iterdir()} - _REPORT == _FILES - {"vmcore"}
    assert json.loads((directory / "summary.json").read_text())["complete"] is True
    assert (directory / "dmesg").read_text() == tools.vmcore_dmesg(outcome.truth)
    assert report_of(directory / "vmcore.triage") == report_of(outcome.truth)


@looks_at(saved_on_root)
def test_the_running_machine_says_what_a_dump_of_it_would_have(outcome: Outcome) -> None:
    """``estimate /proc/kcore`` counts as many pages of a kind as the kernel does."""
    seen = outcome.files("/var/lab")
    counted = json.loads((seen / "estimate").read_text())["pages"]
    found = {name: kind["count"] for name, kind in counted.items()}
    before, after = (_meminfo(seen / name) for name in ("before", "after"))
    itself = 25_000  # pages that it takes, and gives back at its end
    assert after["MemFree"] - itself < found["free"] < before["MemFree"]
    assert before["AnonPages"] < found["user"] < before["AnonPages"] + itself
    cache = found["cache"] + found["private cache"]
    slack = 200  # on their way to a list
    assert before["Cached"] + before["Buffers"] - slack < cache
    assert cache < after["Cached"] + after["Buffers"] + slack


def _meminfo(file: Path) -> dict[str, int]:
    """What /proc/meminfo says, in pages."""
    fields = re.findall(r"^(\w+): +([0-9]+) kB$", file.read_text(), re.MULTILINE)
    return {name: int(size) // 4 for name, size in fields}


@looks_at(saved_by_initramfs)
def test_the_initramfs_reboots_without_a_root_file_system(outcome: Outcome) -> None:
    assert_rebooted(outcome)
    assert "EXT4-fs (vda)" not in outcome.panicked


@looks_at(saved_by_initramfs)
def test_the_dump_is_on_the_target(outcome: Outcome, tmp_path: Path) -> None:
    (directory,) = (
        path for path in outcome.files_on("lab-crash").iterdir() if path.name != "lost+found"
    )
    assert_dump_is_whole(outcome, directory, tmp_path)


@looks_at(saved_by_initramfs)
def test_what_a_report_needs_is_saved_first(outcome: Outcome) -> None:
    """With ``level = "triage,31"``."""
    (directory,) = (
        path for path in outcome.files_on("lab-crash").iterdir() if path.name != "lost+found"
    )
    assert {path.name for path in directory.iterdir()} - _REPORT == _FILES
    assert json.loads((directory / "summary.json").read_text())["triage_dump"]["complete"] is True
    small, large = (directory / name for name in ("vmcore.triage", "vmcore"))
    assert small.stat().st_size < large.stat().st_size
    said = re.findall(r"vmcorefs: \S+/(vmcore\S*): .* of memory in ", outcome.panicked)
    assert said == ["vmcore.triage", "vmcore"]
    assert report_of(small) == report_of(large)


@looks_at(target_full)
def test_a_full_target(outcome: Outcome) -> None:
    assert_ended_as_configured(outcome, 600)
    assert re.search(r"vmcorefs: .*to stay free \(\[keep\] free\)", outcome.panicked)
    dump = dump_in(outcome.files_on("lab-full"))
    assert_log_was_saved(outcome, dump)
    assert not (dump / "summary.json").exists()
    assert not (dump / "vmcore").exists()


@looks_at(target_missing)
def test_a_target_that_is_not_there(outcome: Outcome) -> None:
    assert_ended_as_configured(outcome, 600)
    assert "vmcorefs: LABEL=no-such-label: no such device after 10 s" in outcome.panicked


@looks_at(saver_killed)
def test_a_saver_that_is_killed_in_the_middle(outcome: Outcome) -> None:
    assert console.event(outcome.said, "KILLED") is not None
    assert_ended_as_configured(outcome, 600)
    dump = dump_in(outcome.files("/var/crash"))
    assert_log_was_saved(outcome, dump)
    assert {path.name for path in dump.iterdir()} - _REPORT == {"dmesg", "vmcore.incomplete"}


@looks_at(time_over)
def test_a_saver_that_takes_too_long(outcome: Outcome) -> None:
    assert_ended_as_configured(outcome, 600)
    assert "vmcorefs: not done after 2 s: giving up" in outcome.panicked


@looks_at(page_unreadable)
def test_a_page_that_cannot_be_read(outcome: Outcome, tmp_path: Path) -> None:
    """All the rest is saved, and what is missing is said."""
    assert console.expect(outcome.said, "BAD").count("-") >= 2  # the text is mapped twice
    assert_ended_as_configured(outcome, 1200)
    assert re.search("vmcorefs: .*: 4096 bytes could not be read", outcome.panicked)
    dump = dump_in(outcome.files("/var/crash"))
    assert_log_was_saved(outcome, dump)
    summary = json.loads((dump / "summary.json").read_text())
    assert summary["complete"] is False
    assert summary["lost_bytes"] == 4096
    assert "makedumpfile Completed" in tools.run(
        ["makedumpfile", "--dump-dmesg", dump / "vmcore.incomplete", tmp_path / "log"], dump
    )


@looks_at(left_too_little)
def test_a_crash_kernel_with_too_little_memory_for_saving(outcome: Outcome) -> None:
    """Python does not get as far as saying so: a shell does, and systemd powers off."""
    assert "LAB-AVAILABLE" in outcome.said
    assert "vmcorefs: saving has failed" in outcome.panicked
    assert outcome.end == "guest-shutdown"
    assert outcome.seconds < 600


@looks_at(reserved_far_too_little)
def test_a_crash_kernel_with_too_little_memory_for_itself(outcome: Outcome) -> None:
    """No program ran: "panic=" on its command line makes the machine reboot."""
    assert outcome.end == "guest-reset"
    assert "Kernel panic" in outcome.panicked.partition("Linux version")[2]
