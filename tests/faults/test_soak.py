"""Long running, in little: readers, mounts and unmounts, with memory and descriptors flat.

``VMCOREFS_SOAK_SECONDS=86400 ./run test tests/faults/test_soak.py -s`` is the day; the default is
what a test may take.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from tests.faults.load import Load, under_load
from tests.faults.scene import right_bytes
from tests.mount.machine import RAM_END, Machine, make_machine
from vmcorefs.fuse.mounts import find_mount

pytestmark = pytest.mark.mount

SECONDS = float(os.environ.get("VMCOREFS_SOAK_SECONDS", "40"))
OPTIONS = ("plane=kernel", "plane=mapped", "direct_io", "plane=plain")
MOST_GROWTH = 2 << 20
"""Bytes of memory of its own that a daemon may have more at the end than after a quarter."""


@dataclass(frozen=True)
class Use:
    """What a daemon holds: bytes of anonymous memory, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


def use_of(pid: int) -> Use:
    status = Path(f"/proc/{pid}/status").read_text()
    return Use(
        int(status.partition("RssAnon:")[2].split()[0]) * 1024,
        len(os.listdir(f"/proc/{pid}/fd")),
        int(status.partition("Threads:")[2].split()[0]),
    )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def make_mounted(directory: Path, option: str, stack: ExitStack) -> Machine:
    directory.mkdir()
    machine = make_machine(directory)
    (directory / "expected").write_bytes(right_bytes(is_one_run=False))
    done = machine.mount("-o", option)
    assert done.returncode == 0, done.stderr
    stack.callback(take_down, machine)
    return machine


def take_down(machine: Machine) -> None:
    if find_mount(str(machine.mountpoint)) is not None:
        subprocess.run(["umount", "-l", str(machine.mountpoint)], check=True)


@pytest.mark.timeout(SECONDS * 2 + 120)
def test_memory_and_descriptors_stay_flat(tmp_path: Path, stack: ExitStack) -> None:
    mounts = Path("/proc/self/mountinfo").read_text().count(str(tmp_path))
    machines = [make_mounted(tmp_path / str(n), o, stack) for n, o in enumerate(OPTIONS)]
    passing = make_machine(make_directory(tmp_path / "passing"))
    stack.callback(take_down, passing)
    picks = random.Random(5)  # noqa: S311  # a test's offsets are no secret
    began = time.monotonic()
    loads = [readers_of(machine, stack) for machine in machines]
    warm: list[Use] = []
    rounds = 0
    for option in cycle(OPTIONS):
        mount_and_read(passing, option, picks)
        rounds += 1
        for machine in machines:
            visit(machine, picks)
        ago = time.monotonic() - began
        if not warm and ago > SECONDS / 4:
            warm = [use_of(machine.daemon) for machine in machines]
        if ago > SECONDS and warm and rounds >= len(OPTIONS):
            break
    end = [use_of(machine.daemon) for machine in machines]
    reads = 0
    for load in loads:
        load.stop()
        load.check()
        reads += sum(sum(seen["good"].values()) for seen in load.seen.values())
    for machine, option, first, last in zip(machines, OPTIONS, warm, end, strict=True):
        say(f"{option}: {first} after a quarter, {last} at the end")
        assert last.memory - first.memory <= MOST_GROWTH, option
        assert last.descriptors == first.descriptors, option
        assert last.threads <= 80, option
        machine.check_log()
        done = machine.run("umount", str(machine.mountpoint))
        assert done.returncode == 0, done.stderr
    say(f"{rounds} mounts and unmounts, {reads} reads, {time.monotonic() - began:.0f} s")
    assert Path("/proc/self/mountinfo").read_text().count(str(tmp_path)) == mounts


def readers_of(machine: Machine, stack: ExitStack) -> Load:
    path = machine.mountpoint / "oldmem"
    expected = machine.directory / "expected"
    # the pause leaves the processors to the mounts and unmounts
    return stack.enter_context(under_load(path, expected, RAM_END, pause=0.01))


def make_directory(path: Path) -> Path:
    path.mkdir()
    return path


def mount_and_read(machine: Machine, option: str, picks: random.Random) -> None:
    with machine.mounted("-o", option):
        visit(machine, picks)


def visit(machine: Machine, picks: random.Random) -> None:
    """What people do to a tree: list it, look at everything, read here and there."""
    for name in os.listdir(machine.mountpoint):
        path = machine.mountpoint / name
        if path.is_file():
            with path.open("rb") as file:
                file.seek(picks.randrange(path.stat().st_size + 1))
                file.read(picks.choice([1, 4096, 1 << 20]))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
