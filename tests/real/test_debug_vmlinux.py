"""The tree's vmlinux in the place of the debug package's: tools must not see the difference."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.lab.capture import Capture
from tests.real import tools
from tests.real.marks import REAL, only

pytestmark = REAL

CRASH = (
    *("sys", "bt -a", "ps", "log", "mod", "kmem -i", "kmem -s", "files", "vm", "mount", "net"),
    *("dev", "irq", "runq", "timer", "task", "struct task_struct"),
    *("foreach bt", "kmem -V", "kmem -g", "kmem -n", "swap", "ipcs", "sys -i", "p linux_banner"),
)

_FRAME = re.compile(r"#[0-9]+ +(?!entry_|0x|\?)(\w+)")
"""A frame's function, but for the entry from user space: assembly has several names there."""

# which file it is, and where crash's own code was when a command of its own failed
_APART = re.compile(r" *KERNEL: .*|.* error trace: .*|")


@only("kexec", "file")
def test_crash_answers_as_with_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    ours, theirs = (
        [
            line
            for line in tools.crash(path, capture.vmcore, *CRASH).splitlines()
            if not _APART.fullmatch(line)
        ]
        for path in (tree / "vmlinux", vmlinux)
    )

    assert ours == theirs
    assert "struct task_struct {" in ours
    assert [line for line in ours if " panic at " in line]


@only("kexec", "file")
def test_drgn_sees_what_it_sees_with_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    said = [tools.drgn(path, capture.vmcore) for path in (tree / "vmlinux", vmlinux)]
    (tasks, _, stack), (all_tasks, _, all_frames) = (text.partition("#0  ") for text in said)
    ours, theirs = (
        [match[1] for line in f"#0  {text}".splitlines() if (match := _FRAME.match(line))]
        for text in (stack, all_frames)
    )

    assert tasks == all_tasks
    # functions that the compiler has put into others are not known
    rest = iter(theirs)
    assert [name for name in ours if name not in rest] == []
    assert ours[:3] == ["__crash_kexec", "panic", "sysrq_handle_crash"]
    assert ours[-1] == "do_syscall_64"


@only("kexec", "file")
def test_every_structure_is_laid_out_as_in_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    script = Path(__file__).with_name("drgn_types.py")
    said = tools.run(
        [sys.executable, script, capture.vmcore, tree / "vmlinux", vmlinux], capture.vmcore
    )
    outcomes = json.loads(said)

    assert outcomes.get("different", []) == []
    # drgn does not look for those that are declared within a function
    assert len(outcomes.get("absent", [])) < 20
    assert len(outcomes["equal"]) > 5000


def test_gdb_knows_types_and_parameters(tree: Path) -> None:
    cpu = "((struct rq *)((char *)&runqueues + __per_cpu_offset[1]))->cpu"
    commands = ("bt", "ptype struct list_head", "p init_task.comm", "p modules.next != 0")
    said = tools.gdb_script(tree / "gdbinit", *commands, f"p {cpu}")

    assert re.search(r"in panic \(fmt=", said)
    assert "struct list_head *next;" in said
    assert '"swapper/0' in said
    assert "$2 = 1\n$3 = 1\n" in said
