"""What an initramfs without systemd runs, in a root where nothing real can be reached."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.waiting import running, wait_for

LONG = 10_000
RUN = Path(__file__).parents[2] / "initramfs" / "run"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """busybox, a vmcorefs of a few lines, and files in place of the console and of sysrq."""
    root = tmp_path / "root"
    for name in ("bin", "dev", "proc/sys/kernel", "run", "usr/lib/vmcorefs/bin"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    # no more than klibc-utils has
    for name in ("sh", "mkdir", "mv", "cat", "kill"):
        (root / "bin" / name).symlink_to("busybox")
    for name in ("dev/console", "dev/null", "proc/sysrq-trigger", "proc/sys/kernel/sysrq"):
        (root / name).touch()
    shutil.copy(RUN, root / "usr/lib/vmcorefs/run")
    # a second is a tenth of one, and none is over before vmcorefs has been called: a busy machine
    # may take long to start it
    second = "until [ -s /calls ]; do busybox sleep 0.05; done; exec busybox sleep 0.1"
    for name, script in (("modprobe", ""), ("sleep", second)):
        (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (root / "bin" / name).chmod(0o755)
    return root


def run(
    root: Path, program: str, *, limit: int = LONG, patience: int = LONG, mount: str = "no"
) -> list[str]:
    """Run it with ``program`` as vmcorefs until it has nothing more to try.

    Args:
        root: Where.
        program: A shell script.
        limit: Its seconds for saving.
        patience: Its seconds for ending.
        mount: Whether it mounts the memory.

    Returns:
        How vmcorefs was called, in the end with what was written to sysrq-trigger.
    """
    vmcorefs = root / "usr/lib/vmcorefs/bin/vmcorefs"
    vmcorefs.write_text(f'#!/bin/sh\necho "$*" >>/calls\n{program}\n')
    vmcorefs.chmod(0o755)
    (root / "usr/lib/vmcorefs/run.conf").write_text(
        f"limit={limit}\npatience={patience}\nmount={mount}\n"
    )
    sysrq = root / "proc/sysrq-trigger"
    with running(["chroot", root, "/usr/lib/vmcorefs/run"], start_new_session=True) as process:
        try:
            wait_for(lambda: "b" in sysrq.read_text(), "reboot", process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: start_new_session
    return [*(root / "calls").read_text().splitlines(), *sysrq.read_text().split()]


def test_a_saved_dump_ends_in_the_action_of_success(root: Path) -> None:
    assert run(root, "exit 0") == ["capture save", "capture finish", "b"]


def test_any_failure_ends_in_the_action_of_failure(root: Path) -> None:
    calls = run(root, 'case "$*" in *save*) echo broken >&2; exit 6 ;; esac')
    assert calls == ["capture save", "capture finish --failed", "b"]
    assert (root / "dev/console").read_text().endswith("rebooting it by sysrq\n")


def test_a_saver_that_hangs_ends_in_the_action_of_failure(root: Path) -> None:
    calls = run(root, 'case "$*" in *save*) exec /bin/busybox sleep 1000 ;; esac', limit=1)
    assert calls == ["capture save", "capture finish --failed", "b"]


def test_a_killed_saver_ends_in_the_action_of_failure(root: Path) -> None:
    calls = run(root, 'case "$*" in *save*) kill -9 $$ ;; esac')
    assert calls == ["capture save", "capture finish --failed", "b"]


def test_python_that_always_hangs_ends_in_sysrq(root: Path) -> None:
    assert run(root, "exec /bin/busybox sleep 1000", limit=1, patience=1)[-1] == "b"


def test_the_memory_is_mounted_for_people_and_saved_without(root: Path) -> None:
    calls = run(root, 'case "$*" in mount*) exit 3 ;; esac', mount="yes")
    assert calls == ["mount /proc/vmcore /run/vmcorefs", "capture save", "capture finish", "b"]
