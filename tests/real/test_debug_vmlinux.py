"""The tree's vmlinux in the place of the debug package's: tools must not see the difference."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.lab.capture import Capture
from tests.real import tools
from tests.real.conftest import RECIPES
from tests.real.marks import REAL, only

pytestmark = REAL

CRASH = (
    *("sys", "bt -a", "ps", "log", "mod", "kmem -i", "kmem -s", "files", "vm", "mount", "net"),
    *("dev", "irq", "runq", "timer", "task", "struct task_struct"),
    *("foreach bt", "kmem -V", "kmem -g", "kmem -n", "swap", "ipcs", "sys -i"),
)

# which file it is; which of the names of an address; whether an array has no elements, or no number
# of them; a typedef that was there until 6.3
_NOT_TOLD = re.compile(
    r"KERNEL: .*?\\n|\w+\+0x0 = (?=0x)|(?<=\[)0(?=\])|pg_data_t|struct pglist_data"
)
"""In drgn's answers, where BTF and the symbols do not say what DWARF does."""

# which file it is, and where crash's own code was when a command of its own failed
_APART = re.compile(r" *KERNEL: .*|.* error trace: .*|")


@only("kexec", "file", "file-nokaslr")
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
    assert [line for line in ours if re.search(" v?panic at ", line)]


@only("kexec", "file-nokaslr", "kexec-newer")
def test_drgn_answers_as_with_the_debug_package(
    capture: Capture, tree: Path, vmlinux: Path
) -> None:
    ours, theirs = (_ask_drgn(path, capture.vmcore) for path in (tree / "vmlinux", vmlinux))

    answers = ours["answers"]
    assert [name for name in theirs["answers"] if answers[name] != theirs["answers"][name]] == []
    failed = {name for name, told in answers.items() if re.match(r'\["\w*(Error|Exit)"', told)}
    assert len({name.split(" ")[0] for name in answers.keys() - failed}) > 300  # helpers
    assert len(ours["stacks"]) > 50
    assert {len(frames) > 1 for frames in ours["stacks"].values()} == {True}
    for task, frames in theirs["stacks"].items():
        assert [pc for _, pc in ours["stacks"][task]] == [pc for _, pc in frames], task
        names = zip(ours["stacks"][task], frames, strict=True)
        assert [(one, other) for (one, _), (other, _) in names if _differ(one, other)] == [], task


def _differ(ours: str, theirs: str) -> bool:
    """Whether two names are of different functions; code in assembly has several there."""
    return ours.removesuffix(".cold") != theirs and not re.match("entry_|secondary_", theirs)


def _ask_drgn(vmlinux: Path, dump: Path) -> dict[str, dict[str, Any]]:
    """What its helpers and commands answer, but for what cannot be the same."""
    script = Path(__file__).with_name("drgn_helpers.py")
    said: dict[str, dict[str, Any]] = json.loads(
        tools.run([sys.executable, script, vmlinux, dump], dump)
    )
    for name, answer in said["answers"].items():
        text = json.dumps(answer, ensure_ascii=False)
        if re.match(
            "%crash (bt|foreach bt)", name
        ):  # functions that the compiler has put into others
            text = re.sub(r" *#\d+ \(inline\) *\w+\\n", "", text)
            text = re.sub(r" *#\d+ (\[\w+\]) \S+ at ", r"\1 ", text)
        said["answers"][name] = _NOT_TOLD.sub("", text)
    return said


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
