"""kcore's threads: each CPU whose registers were saved, and each task that no CPU was running."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.lab.capture import debug_vmlinux
from tests.real import tools
from tests.real.guest_dump import dump_guest_memory
from tests.real.marks import REAL, only, stopped
from tests.real.trees import mounted

if TYPE_CHECKING:
    from tests.lab.capture import Capture, Snapshot
    from tests.lab.packages import Arch

pytestmark = REAL

_THREAD: Final = re.compile(r'^Thread [0-9]+ \(LWP ([0-9]+) "(.*)"\):$')
_FRAME: Final = re.compile(r"^#[0-9]+ +0x([0-9a-f]+) in (\S+) \(")
_CALLED: Final = re.compile(
    r"#[0-9]+ +<signal handler called>\n#[0-9]+ +0x0000[0-9a-f]{12} in \?\? \(\)\n"
    r"Backtrace stopped: Cannot access memory at address 0x7f.*"
)
"""What gdb makes of a system call: user space was interrupted, and its stack is not there."""
_ON_CPU: Final = re.compile(r" on CPU [0-9]+$")
_FIRST_FREE: Final = 1 << 22  # no process has this id or one above it

SWITCHES: Final = {"amd64": ("gdb", "__schedule"), "arm64": ("gdb-multiarch", "__switch_to")}
"""Which gdb knows an architecture, and where each task has been switched out."""

ENTRY: Final = (0, "a system call")
ENDS: Final = ("ret_from_fork", "ret_from_fork_asm", ENTRY[1], "el0t_64_sync")
"""What the stack of a task that sleeps ends in; that of a CPU's idle task, in its start."""

LABELS: Final = {
    (ENTRY[1], "entry_SYSCALL_64"),
    ("common_startup_64", "secondary_startup_64"),
    ("secondary_startup_64_no_verify", "secondary_startup_64"),
}
"""Symbols within functions of assembly, which drgn calls by the function's name."""

Frames = tuple[tuple[int, str], ...]
"""Address and function of each frame."""


class Stacks(NamedTuple):
    """What a debugger says of each task: by pid and name."""

    running: dict[tuple[int, str], Frames]
    sleeping: dict[tuple[int, str], Frames]


def gdb_stacks(tree: Path, program: str) -> Stacks:
    """What gdb makes of each thread."""
    said = tools.gdb_script(tree / "gdbinit", "thread apply all bt", program=program)
    found = Stacks({}, {})
    for block in said.split("\n\n"):
        text, called = _CALLED.subn("", block)
        first, *lines = text.splitlines()
        thread = _THREAD.match(first)
        if thread is None:
            continue
        pid, name = int(thread[1]), _ON_CPU.sub("", thread[2])
        key = (pid if pid < _FIRST_FREE else 0, name)
        stacks = found.sleeping if name == thread[2] else found.running
        assert key not in stacks
        frames = [_FRAME.match(line) for line in lines if line.startswith("#")]
        told = [(int(frame[1], 16), frame[2]) for frame in frames if frame]
        stacks[key] = (*told, *[ENTRY] * called)
        assert None not in frames, text
    return found


def drgn_stacks(vmlinux: Path, tree: Path, *modules: Path) -> dict[tuple[int, str], Frames]:
    """What drgn makes of each task that is not running, with files of modules if need be."""
    script = Path(__file__).with_name("drgn_stacks.py")
    said = tools.run([sys.executable, script, vmlinux, tree / "vmcore", *modules], tree)
    reports = [json.loads(line) for line in said.splitlines()]
    return {(one["pid"], one["comm"]): tuple(map(tuple, one["frames"])) for one in reports}


def is_same_function(tree: Path, address: int, ours: str, theirs: str) -> bool:
    """Whether two names are of one place: an alias, or a label in a function of assembly."""
    # gdb leaves out the number of a clone: foo.constprop.0
    if (ours, theirs) in LABELS or re.fullmatch(rf"{re.escape(ours)}\.[0-9]+", theirs):
        return True
    lines = (line.split() for line in (tree / "kallsyms").read_text().splitlines())
    places = {words[2]: int(words[0], 16) for words in lines if len(words) == 3}
    return places[ours] == places[theirs] <= address


def check_against_drgn(tree: Path, vmlinux: Path, arch: Arch, *modules: Path) -> Stacks:
    """Every task has a thread, and every frame is the one that drgn finds with debug symbols."""
    program, switch = SWITCHES[arch]
    ours, theirs = gdb_stacks(tree, program), drgn_stacks(vmlinux, tree, *modules)
    assert ours.sleeping.keys() == theirs.keys()
    for key, frames in theirs.items():
        mine = ours.sleeping[key]
        assert len(mine) == len(frames), key
        names = list(zip(mine, frames, strict=True))
        assert all(ours == theirs for (ours, _), (theirs, _) in names if ours), key
        odd = {(at, name, other) for (at, name), (_, other) in names if name != other}
        assert all(is_same_function(tree, *one) for one in odd), (key, odd)
        # or it has never run yet, and is to begin where others end
        assert mine[0][1] == switch or (len(mine) == 1 and mine[0][1] in ENDS), key
        assert key[0] == 0 or mine[-1][1] in ENDS, key
    return ours


def check_names(snapshot: Snapshot, stacks: Stacks) -> None:
    """The guest has listed its tasks a moment before; /proc/PID/comm says more of a worker."""
    found = [*stacks.running, *stacks.sleeping]
    told = dict(line.split(" ", 1) for line in snapshot.text("tasks").splitlines())
    named = {pid: name for pid, name in found if str(pid) in told}
    assert {"kthreadd", "lab-sleeper", "lab-waiter", "lab-keeper"} <= set(named.values())
    renamed = [pid for pid, name in named.items() if not told[str(pid)].startswith(name)]
    assert renamed == []
    # the shell that listed them and what it started have ended
    assert len(told) - len(named) <= 4


@only("kexec", "file", "file-nokaslr", "kexec-newer")
def test_a_machine_that_crashed(capture: Capture, tree: Path, vmlinux: Path) -> None:
    found = check_against_drgn(tree, vmlinux, capture.recipe.arch)

    check_names(capture, found)
    assert len(found.running) == capture.recipe.cpus
    panicked = [key for key, frames in found.running.items() if frames[0][1] == "__crash_kexec"]
    assert panicked == [(1, "init")]
    # the shell that crashed the machine was the task of the CPU that gdb is shown
    said = tools.gdb_script(tree / "gdbinit", "info threads")
    assert re.search(r'^\* [0-9]+ +LWP 1 "init on CPU [0-9]+" ', said, re.MULTILINE)
    assert len(re.findall(r"^[* ] [0-9]+ +LWP ", said, re.MULTILINE)) == sum(map(len, found))


@stopped("none", "none-5g", "none-newer")
def test_a_machine_that_was_stopped(snapshot: Snapshot, tmp_path: Path) -> None:
    vmlinux = debug_vmlinux(snapshot.recipe.kernel)
    with mounted(tmp_path, snapshot.config) as tree:
        found = check_against_drgn(tree, vmlinux, snapshot.recipe.arch)
        assert found.running == {}
        said = tools.gdb_script(tree / "gdbinit", "info threads", "thread 2", "bt")
    check_names(snapshot, found)
    silent = re.findall(r"^CPU [0-9]+ was running .+ \(pid [0-9]+\); it saved", said, re.MULTILINE)
    assert len(silent) == snapshot.recipe.cpus
    assert re.search(r'^\* 1 +LWP 1 "init" ', said, re.MULTILINE)
    _, _, stack = said.partition("[Switching to thread 2 ")
    tools.assert_in_order(stack, ["in __schedule (", "in kthreadd (", "in ret_from_fork"])


@stopped("arm64-52-bit")
def test_arm64(snapshot: Snapshot, tmp_path: Path) -> None:
    vmlinux = debug_vmlinux(snapshot.recipe.kernel, "arm64")
    with mounted(tmp_path, snapshot.config) as tree:
        found = check_against_drgn(tree, vmlinux, snapshot.recipe.arch)
    check_names(snapshot, found)
    assert found.running == {}
    assert {frames[-1][1] for frames in found.sleeping.values()} == {
        "ret_from_fork",
        "el0t_64_sync",
    }


@stopped("none")
def test_a_dump_of_qemus_whose_notes_gdb_numbers_as_tasks(
    snapshot: Snapshot, scratch: Path
) -> None:
    """Its CPUs were never started: their notes are of real mode, and are LWP 1 and LWP 2 to gdb."""
    dump = dump_guest_memory(snapshot, scratch / "dump")
    with mounted(scratch, dump) as tree:
        found = gdb_stacks(tree, "gdb").sleeping
        theirs = drgn_stacks(debug_vmlinux(snapshot.recipe.kernel), tree)
    assert _places(found) == _places(theirs)
    assert len(_places(found)) > 30


def _places(stacks: Mapping[tuple[int, str], Frames]) -> set[tuple[str, tuple[int, ...]]]:
    """Names of tasks and the addresses in their stacks, but for the entry from user space."""
    entry = (ENTRY[1], "entry_SYSCALL_64")
    return {
        (name, tuple(at for at, called in frames if not called.startswith(entry)))
        for (_, name), frames in stacks.items()
    }
