"""What lies in vmalloc space, where a vmcore has no way to: stacks, modules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.truth import segments

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL


@only("kexec", "file")
def test_gdb_follows_the_stack_of_the_cpu_that_panicked(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    vmcoreinfo = dict(
        line.split("=", 1) for line in (tree / "vmcoreinfo").read_text().splitlines() if line
    )
    symbols = f"symbol-file {vmlinux} -o 0x{vmcoreinfo['KERNELOFFSET']}"
    said = tools.gdb(tree / "kcore", symbols, f"thread apply 1-{capture.recipe.cpus} bt")
    frames = [
        "__crash_kexec",
        "in panic (",
        "sysrq_handle_crash",
        "in vfs_write (",
        "do_syscall_64",
    ]
    tools.assert_in_order(said, frames)
    # and why there is a kcore: the vmcore does not reach that stack
    assert "sysrq_handle_crash" not in tools.gdb(tree / "vmcore", symbols, "thread apply all bt")


def test_gdb_has_a_thread_for_every_cpu(capture: Capture, tree: Path) -> None:
    # idle CPUs all have the process id 0, and in a vmcore gdb keeps the last of them only
    cpus = segments(capture.vmcore).cpus
    said = tools.gdb(tree / "kcore", "info threads", f"thread apply 1-{cpus} -q p/x $sp")
    assert said.count("Frame") == 1
    assert said.count(" LWP ") >= cpus
    stacks = set(re.findall(r"^\$[0-9]+ = (0x[0-9a-f]+)$", said, re.MULTILINE))
    assert len(stacks) == cpus


def test_drgn_says_the_same_of_kcore(capture: Capture, tree: Path, vmlinux: Path) -> None:
    assert tools.drgn(vmlinux, tree / "kcore") == tools.drgn(vmlinux, capture.vmcore)


def test_what_is_not_mapped_is_an_error(tree: Path) -> None:
    layout = (tree / "layout.json").read_text()
    kcore = layout[layout.index('"kcore"') :]
    hole = next(line for line in kcore.splitlines() if '"kind": "hole"' in line)
    offset = int(hole.split('"offset": ')[1].split(",")[0])
    with (tree / "kcore").open("rb", buffering=0) as file:
        file.seek(offset)
        with pytest.raises(OSError, match="Input/output error"):
            file.read(8)
