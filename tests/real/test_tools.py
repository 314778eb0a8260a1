"""Tools say the same on the mount as on the kernel's own vmcore, and say what they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import differences
from tests.real.truth import segments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL

PANICKED = "Kernel panic - not syncing: sysrq triggered crash"


def _same(tool: Callable[[Path], str], capture: Capture, tree: Path) -> str:
    """Return what a tool says of the mount; fail if it says another thing of the truth."""
    said = tool(tree / "vmcore")
    assert said == tool(capture.vmcore)
    return said


def test_crash_tells_the_release(capture: Capture, tree: Path) -> None:
    assert _same(tools.crash_osrelease, capture, tree) == f"{capture.kernel.name}\n"


def test_vmcore_dmesg_prints_the_log(capture: Capture, tree: Path) -> None:
    said = _same(tools.vmcore_dmesg, capture, tree)
    assert f"Linux version {capture.kernel.name} " in said
    assert "lab: about to panic" in said
    assert PANICKED in said


def test_makedumpfile_dumps_the_log(capture: Capture, tree: Path, tmp_path: Path) -> None:
    def dump_dmesg(dump: Path) -> str:
        out = tmp_path / f"out-{dump.parent.name}"
        return tools.makedumpfile(dump, out, "--dump-dmesg").read_text()

    assert PANICKED in _same(dump_dmesg, capture, tree)


@pytest.mark.parametrize("options", ["-d 31 -c", "-d 31 -c --non-mmap", "-d 1 -l", "-d 31 -E"])
def test_makedumpfile_writes_the_same_dump(
    capture: Capture, tree: Path, scratch: Path, options: str
) -> None:
    ours = tools.makedumpfile(tree / "vmcore", scratch / "ours", *options.split())
    theirs = tools.makedumpfile(capture.vmcore, scratch / "theirs", *options.split())
    assert ours.stat().st_size > 1 << 20
    assert differences(ours, theirs) == (0, None)


def test_readelf_lists_segments_and_notes(capture: Capture, tree: Path) -> None:
    said = _same(lambda dump: tools.readelf(dump, "--notes"), capture, tree)
    assert said.count("NT_PRSTATUS") == segments(capture.vmcore).cpus >= 1
    assert "VMCOREINFO" in said


def test_gdb_lists_segments_and_threads(capture: Capture, tree: Path) -> None:
    truth = segments(capture.vmcore)
    loads = truth.loads
    commands = ["info files", "maintenance info sections", "info threads"]
    commands += ["thread apply all info registers", f"x/8i {loads[0]['p_vaddr']:#x}"]
    commands += [f"x/8gx {load['p_vaddr'] + load['p_memsz'] - 64:#x}" for load in loads]
    said = _same(lambda dump: tools.gdb(dump, *commands), capture, tree)
    for load in loads:
        span = f"0x{load['p_vaddr']:016x} - 0x{load['p_vaddr'] + load['p_memsz']:016x} is load"
        assert span in said
    # gdb announces a thread for each CPU, but lists one for all that were idle: their pid is 0
    assert said.count("[New ") == truth.cpus
    assert "\nThread " in said


@only("kexec", "file")  # Debian's crash does not know a newer kernel (test_check.py)
def test_crash_with_symbols(capture: Capture, tree: Path, vmlinux: Path) -> None:
    def crash(dump: Path) -> str:
        return tools.crash(vmlinux, dump, "sys", "bt", "log", "ps", "rd linux_banner 16", "kmem -i")

    said = _same(crash, capture, tree)
    assert f"DUMPFILE: {tools.NAMED}" in said
    assert "NODENAME: vmcorefs-lab" in said
    assert f"CPUS: {capture.recipe.cpus}\n" in said
    assert f'PANIC: "{PANICKED}"' in said
    assert "__crash_kexec at " in said
    assert "lab: about to panic" in said
    assert "\n      PID    PPID  CPU" in said


def test_drgn_reads_names_tasks_and_a_stack(capture: Capture, tree: Path, vmlinux: Path) -> None:
    said = _same(lambda dump: tools.drgn(vmlinux, dump), capture, tree).splitlines()
    assert said[:3] == ["Linux", "vmcorefs-lab", capture.kernel.name]
    tasks = [line for line in capture.text("tasks").splitlines() if " lab-" in line]
    assert len(tasks) == 3
    assert set(said) >= set(tasks)
    assert any("__crash_kexec" in line for line in said)
