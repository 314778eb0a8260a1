"""What is known of a daemon by its mount: whether it runs, whose it is, and what ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.waiting import PATIENCE, running
from vmcorefs.errors import MountError
from vmcorefs.fuse import mounts
from vmcorefs.fuse.mounts import Mount
from vmcorefs.system.mountinfo import Mounted

NAMED = """
import sys
from pathlib import Path
Path("/proc/self/comm").write_text(sys.argv[1])
print("named", flush=True)
sys.stdin.read()
"""


def test_a_daemon_that_has_died_and_was_not_reaped_does_not_run() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for name, runs in (("vmcorefs", True), ("another", False)):
        with running([sys.executable, "-c", NAMED, name], **pipes) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "named\n"
            assert mounts._runs_by_name(process.pid) == runs
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert not mounts._runs_by_name(process.pid)


@pytest.fixture
def daemon() -> Iterator[subprocess.Popen[str]]:
    with running(["sleep", "infinity"]) as process:
        yield process


@pytest.fixture
def unmounted(monkeypatch: pytest.MonkeyPatch, daemon: subprocess.Popen[str]) -> Mount:
    """A mount that unmounting takes away, and no daemon ends by itself."""
    mount = Mount("/mnt", daemon.pid, os.getuid())
    monkeypatch.setattr(mounts, "_GRACE", 0.01)
    monkeypatch.setattr(mounts, "_run_umount", lambda _mountpoint, *, lazy: None)
    monkeypatch.setattr(mounts, "_open_daemon", os.pidfd_open)
    monkeypatch.setattr(mounts, "list_mounts", list)
    return mount


def test_a_daemon_that_does_not_end_by_itself_is_told(
    monkeypatch: pytest.MonkeyPatch, daemon: subprocess.Popen[str], unmounted: Mount
) -> None:
    monkeypatch.setattr(mounts, "find_mount", lambda _: unmounted)
    mounts.unmount("/mnt", lazy=False, timeout=PATIENCE)
    assert daemon.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize("owner", [None, os.getuid() + 1])
def test_a_process_of_another_user_is_not_told_and_who_keeps_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
    daemon: subprocess.Popen[str],
    unmounted: Mount,
    owner: int | None,
) -> None:
    # whoever mounts something chooses its source, which has the number of the daemon
    forged = Mount(unmounted.mountpoint, daemon.pid, owner)
    monkeypatch.setattr(mounts, "find_mount", lambda _: forged)
    monkeypatch.setattr(mounts, "_holders_of", lambda _: iter(["bash(7)", "sleep(8)"]))
    with pytest.raises(MountError) as error:
        mounts.unmount("/mnt", lazy=False, timeout=0.05)
    assert str(error.value) == (
        f"/mnt: unmounted, but the daemon, {daemon.pid}, still runs after 0.05 s: the mount lives"
        " on in the namespace of bash(7), sleep(8)"
    )
    assert daemon.poll() is None


@pytest.mark.parametrize(
    "source", ["vmcorefs:\u00b2", "vmcorefs:99999999999", "vmcorefs:", "vmcorefs:1\n", "sshfs:1"]
)
def test_a_source_that_names_no_process_is_none_of_ours(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    mounted = [
        Mounted("/a", "/", source, "fuse.vmcorefs", "0:1", is_read_only=True, number=1, owner=7),
        Mounted("/b", "/", "vmcorefs:12", "fuse.vmcorefs", "0:2", is_read_only=True, number=2),
    ]
    monkeypatch.setattr(mounts, "list_mounted", lambda: mounted)
    assert mounts.list_mounts() == [Mount("/b", 12)]
