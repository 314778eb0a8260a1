"""``vmcorefs report`` on real machines, against drgn with the debug package."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

import vmcorefs
from tests.real import tools
from tests.real.marks import REAL, only, stopped
from vmcorefs.api import open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.notes import NT_PRSTATUS, Note
from vmcorefs.core.elf.registers import REGISTER_SETS
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.piece import Piece
from vmcorefs.reports.report import gather
from vmcorefs.reports.report.gather import make_report
from vmcorefs.reports.report.html.memory_map import places_of
from vmcorefs.reports.report.schema import Report, Unknown
from vmcorefs.reports.report.text import format_report
from vmcorefs.sources.file import FileSource

if TYPE_CHECKING:
    from tests.lab.capture import Capture, Snapshot

pytestmark = REAL

MIB = 1 << 20
_WALK = "vmcorefs.reports.report.walk."


def _report(capture: Snapshot, **options: Any) -> Report:  # vmcorefs.open's
    with vmcorefs.open(capture.config, **options) as opened:
        return make_report(opened.image)


def _truth(capture: Capture, vmlinux: Path) -> dict[str, Any]:
    script = Path(__file__).with_name("report_truth.py")
    said = tools.run([sys.executable, script, vmlinux, capture.vmcore], capture.vmcore)
    truth: dict[str, Any] = json.loads(said.splitlines()[-1])
    return truth


def test_it_says_what_drgn_says_with_the_debug_package(capture: Capture, vmlinux: Path) -> None:
    report, truth = _report(capture), _truth(capture, vmlinux)
    memory = report.memory

    assert report.unknown == []
    for cpu in report.cpus:
        assert cpu.stack is not None
        assert cpu.task is not None
        # behind the entry from user space, drgn shows the program's own registers
        true = truth["stacks"][str(cpu.number)]
        assert [frame.pc for frame in cpu.stack.frames] == true[: len(cpu.stack.frames)]
        assert cpu.stack.broken == ""
        assert cpu.task.pid == truth["on_cpu"][str(cpu.number)]
    assert report.tasks == Counter(truth["states"]) == Counter(t.state for t in report.threads)
    assert sorted([t.pid, t.tgid, t.comm, t.cpu] for t in report.threads) == sorted(
        truth["threads"]
    )
    never_ran = [thread for thread in report.threads if thread.seconds is None]
    assert len(never_ran) < 3  # it was forked as the machine died
    assert [module.name for module in report.modules] == truth["modules"]
    assert report.died.memory == truth["memory"]
    assert memory is not None
    assert memory.counters["free"] == truth["free"]
    assert {p.pid: p.rss for p in memory.processes}.items() <= {
        int(pid): rss for pid, rss in truth["rss"].items()
    }.items()
    assert memory.processes[0].rss == max(truth["rss"].values())
    assert {slab.name: slab.size for slab in memory.slabs}.items() <= truth["slabs"].items()
    assert memory.slabs[0].size == max(truth["slabs"].values())


def test_it_says_what_was_done_to_the_machine(capture: Capture) -> None:
    report = _report(capture)

    assert report.died.host == "vmcorefs-lab"
    assert report.died.release == capture.text("uname").split()[2]
    assert report.died.cpus == capture.recipe.cpus == len(report.cpus)
    assert report.died.hardware is not None
    assert report.died.hardware.startswith("QEMU ")
    assert report.died.command_line is not None
    assert report.died.command_line.endswith(capture.recipe.cmdline)
    assert report.died.uptime is not None
    assert 0 < report.died.uptime < 3600
    assert report.why.panicked
    assert report.crash.title == "kernel panic: sysrq triggered crash"
    assert report.why.stack is not None
    # in newer kernels panic() calls vpanic()
    functions = [name for name in report.why.stack.functions if name != "vpanic"]
    assert functions[:3] == ["__crash_kexec", "panic", "sysrq_handle_crash"]
    assert report.why.task is not None
    assert (report.why.task.pid, report.why.task.comm) == (1, "init")
    assert report.why.taints == []
    said = "\n".join(format_report(report))
    assert "sysrq triggered crash" in said
    assert f"on CPU {report.why.cpu}, pid 1 (init)" in said


@only("kexec")
def test_the_command_needs_no_debug_package_and_no_map(capture: Capture) -> None:
    command = [sys.executable, "-m", "vmcorefs", "report", str(capture.ram), "--json"]
    report = msgspec.json.decode(tools.run([*command], capture.ram), type=Report)

    assert report.crash.title == "kernel panic: sysrq triggered crash"
    assert report.unknown == []


@pytest.mark.parametrize("size", [None, 15 << 40], ids=["as it is", "15 TiB"])
@only("kexec", "file", "kexec-newer")
def test_it_reads_a_few_megabytes_of_a_raw_image(
    capture: Capture, scratch: Path, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    """The kernel is found through the one that ran last: here that is its capture kernel."""
    ram, read = capture.ram, 0
    if size is not None:
        ram = scratch / "ram"
        subprocess.run(["cp", "--sparse=always", capture.ram, ram], check=True)
        os.truncate(ram, size)
    pread_into = FileSource.pread_into

    def counted(source: FileSource, offset: int, buffer: memoryview) -> None:
        nonlocal read
        read += len(buffer)
        pread_into(source, offset, buffer)

    monkeypatch.setattr(FileSource, "pread_into", counted)
    with vmcorefs.open(ram) as opened:
        report = make_report(opened.image)
        assert opened.image.plan.paddr is not None
    assert report.unknown == []
    assert report.crash.title == "kernel panic: sysrq triggered crash"
    assert len(report.cpus) == capture.recipe.cpus
    assert read < 64 * MIB


@only("kexec")
def test_the_page_is_written_over_no_input_and_no_file(capture: Capture, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    command = [sys.executable, "-m", "vmcorefs", "report", str(capture.ram), "--html"]
    before = capture.ram.stat().st_mtime_ns

    assert tools.run([*command, page], capture.ram) == ""
    said = page.read_text()
    assert "kernel panic: sysrq triggered crash</h1>" in said
    assert 'class="crash"' in said
    assert "lab-sleeper" in said
    for options, why in (
        ([page], "exists already; pass --force to replace it"),
        ([capture.ram, "--force"], "this is the input"),
    ):
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert why in done.stderr
    assert page.read_text() == said
    assert capture.ram.stat().st_mtime_ns == before


@only("kexec")
def test_the_map_of_a_dump_has_the_kernel_in_it_too(capture: Capture) -> None:
    """A dump's own headers say nothing but where RAM was."""
    with vmcorefs.open(capture.vmcore) as dump:
        ((start, end),) = places_of(dump.image).kernel.tolist()
    parts = re.findall(r"^ *([0-9a-f]+)-([0-9a-f]+) : Kernel ", capture.text("iomem"), re.MULTILINE)
    assert start == min(int(first, 16) for first, _ in parts)
    assert end > max(int(last, 16) for _, last in parts)


@stopped("none", "none-5g", "none-newer", "arm64-52-bit", "arm64-16k")
def test_a_machine_that_was_stopped_is_said_not_to_have_panicked(snapshot: Snapshot) -> None:
    report = _report(snapshot)
    tasks = dict(line.split(None, 1) for line in snapshot.text("tasks").splitlines())

    assert report.why.panicked is False
    assert report.died.time is not None
    assert abs(report.died.time - snapshot.ram.stat().st_mtime) < 7200
    assert report.died.uptime is not None
    assert 0 < report.died.uptime < 3600
    # kernel threads come and go
    assert abs(sum(report.tasks.values()) - len(tasks)) < 16
    assert {missed.field for missed in report.unknown} == {
        f"cpus[{n}].stack" for n in range(snapshot.recipe.cpus)
    }
    assert "it did not panic" in "\n".join(format_report(report))


@only("kexec")
def test_without_a_log_the_stack_says_what_it_was(capture: Capture) -> None:
    with vmcorefs.open(capture.config) as opened:
        report = make_report(replace(opened.image, log=None))

    assert report.crash.title == "kernel panic in sysrq_handle_crash"
    assert "crash" in [missed.field for missed in report.unknown]


@only("kexec")
def test_without_drgn_it_says_what_the_log_and_the_image_say(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "HAS_DRGN", False)
    report = _report(capture)

    assert report.crash.title == "kernel panic: sysrq triggered crash"
    assert report.died.cpus == capture.recipe.cpus
    assert report.unknown == [
        Unknown("cpus, tasks, blocked, memory, modules, disks", gather.NO_DRGN)
    ]
    assert "pip install 'vmcorefs[report]'" in "\n".join(format_report(report))


@only("kexec")
def test_a_drgn_that_is_too_old_is_said_to_be(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(_WALK)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "drgn.helpers.linux.vmstat", None)  # 0.0.31 has none
    report = _report(capture)

    (missed,) = report.unknown
    assert missed.why.startswith("drgn is too old, expected 0.1 or later: ")


@only("kexec")
def test_what_is_not_in_the_image_is_said_to_be_unknown(capture: Capture) -> None:
    """Of an image that ends behind the kernel, little but the kernel's own variables is left."""
    last = max(int(end, 16) for end in re.findall(r"-([0-9a-f]+) : Kernel ", capture.text("iomem")))
    note = int(capture.text("vmcoreinfo").split()[0], 16)
    size = (max(last, note) + (8 << 20)) & -4096
    config = CaptureConfig((Piece(str(capture.ram), paddr=0, size=size),), truncated=True)
    with open_capture(config) as cut:
        report = make_report(cut.image)

    assert report.died.release == capture.text("uname").split()[2]
    assert report.why.panicked
    assert report.unknown
    said = "\n".join(format_report(report))
    for missed in report.unknown:
        assert f"{missed.field}: {missed.why}" in said


@stopped("none", "arm64-52-bit")
def test_registers_that_a_hypervisor_kept_give_a_cpu_its_stack(snapshot: Snapshot) -> None:
    """CPU 0 gets the registers of a task that sleeps: its stack must come of them."""
    with vmcorefs.open(snapshot.config) as opened:
        kernel = opened.image.kernel
        assert kernel is not None
        (task,) = [task for task in kernel.tasks.tasks if task.name == "lab-waiter"]
        kept = kernel.tasks.registers(task)
        words = [kept.get(name, 0) for name in REGISTER_SETS[kernel.machine].names]
        desc = bytes(112) + struct.pack(f"<{len(words)}Q", *words) + bytes(8)
        slot = NoteSlot(0, b"", (Note(b"CORE", NT_PRSTATUS, desc, 0),), 0)
        notes = replace(opened.image.notes, slots=(slot,))
        report = make_report(replace(opened.image, notes=notes))

    stack = report.cpus[0].stack
    assert stack is not None
    assert "schedule" in stack.functions
    assert any("read" in name for name in stack.functions) or "wait_for_partner" in stack.functions
    assert [missed.field for missed in report.unknown] == ["cpus[1].stack"]
