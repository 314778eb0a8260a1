"""The tree's vmlinux in the place of the debug package's: tools must not see the difference."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.lab.capture import Capture
from tests.real import compared, tools
from tests.real.conftest import RECIPES
from tests.real.marks import REAL, only

pytestmark = REAL

CRASH = (
    *("sys", "bt -a", "ps", "log", "mod", "kmem -i", "kmem -s", "files", "vm", "mount", "net"),
    *("dev", "irq", "runq", "timer", "task", "struct task_struct"),
    *("foreach bt", "kmem -V", "kmem -g", "kmem -n", "swap", "ipcs", "sys -i"),
)


@only("kexec", "file", "file-nokaslr")
def test_crash_answers_as_with_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    ours = compared.check_crash(tree / "vmlinux", vmlinux, capture.vmcore, *CRASH)

    assert "struct task_struct {" in ours
    assert [line for line in ours if re.search(" v?panic at ", line)]


@only("kexec", "file-nokaslr", "kexec-newer")
def test_drgn_answers_as_with_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    said = compared.check_drgn(tree / "vmlinux", vmlinux, capture.vmcore)

    assert {len(frames) > 1 for frames in said["stacks"].values()} == {True}


@only("kexec", "kexec-newer")
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


@only("kexec", "file-nokaslr", "kexec-newer")
def test_every_variable_is_declared_as_in_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    script = Path(__file__).with_name("drgn_variables.py")
    said = tools.run(
        [sys.executable, script, capture.vmcore, tree / "vmlinux", vmlinux], capture.vmcore
    )
    outcomes = json.loads(said)

    # of no length in some units; pg_data_t until 6.3
    others = {"linux_banner", "node_data"}
    assert {name for name, _, _ in outcomes.get("different", [])} <= others
    # made by assembly, the linker or a script, and declared by those that use them
    made = {"phys_base", "_etext", "kallsyms_num_syms", "__start___tracepoints_ptrs"}
    assert set(outcomes.get("absent", [])) <= made
    assert len(outcomes.get("ambiguous", [])) < 20
    assert len(outcomes["equal"]) > 450


@only(*RECIPES, "file-nokaslr", "kexec-newer-nokaslr")
def test_gdb_knows_types_and_parameters(tree: Path) -> None:
    cpu = "((struct rq *)((char *)&runqueues + __per_cpu_offset[1]))->cpu"
    commands = ("bt", "ptype struct list_head", "p init_task.comm", "p modules.next != 0")
    said = tools.gdb_script(tree / "gdbinit", *commands, f"p {cpu}")

    assert re.search(r"in panic \(fmt=", said)
    assert "struct list_head *next;" in said
    assert '"swapper/0' in said
    assert "$2 = 1\n$3 = 1\n" in said
