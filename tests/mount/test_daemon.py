"""The daemon's life: starting, telling, being stopped, dying."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apart import apart
from tests.mount.machine import RAM_END, Machine, wait_until_gone
from tests.waiting import PATIENCE, running, wait_for, wait_for_line
from vmcorefs.fuse.mounts import Mount, find_mount, list_mounts
from vmcorefs.fuse.planes.choose import PLANES
from vmcorefs.fuse.reservation import Reservation

pytestmark = pytest.mark.mount


def test_mount_returns_when_the_tree_can_be_read_and_leaves_the_terminal(machine: Machine) -> None:
    # run() waits for end of file on both pipes: it would hang if the daemon kept them open
    with machine.mounted() as mnt:
        assert (mnt / "vmcore").read_bytes()[:4] == b"\x7fELF"
        assert os.getsid(machine.daemon) != os.getsid(0)
        assert Path(f"/proc/{machine.daemon}/cwd").readlink() == Path("/")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_cleanly(machine: Machine, number: signal.Signals) -> None:
    with machine.mounted():
        pid = machine.daemon
        os.kill(pid, number)
        wait_until_gone(pid)
        assert find_mount(str(machine.mountpoint)) is None
        assert os.listdir(machine.mountpoint) == []


def test_a_signal_unmounts_while_a_file_is_open(machine: Machine) -> None:
    with machine.mounted() as mnt, (mnt / "vmcore").open("rb") as file:
        file.read(10)
        pid = machine.daemon
        os.kill(pid, signal.SIGTERM)
        wait_until_gone(pid)
        assert find_mount(str(machine.mountpoint)) is None


def test_umount_waits_until_the_daemon_has_gone(machine: Machine) -> None:
    with machine.mounted():
        pid = machine.daemon
        assert machine.run("umount", str(machine.mountpoint)).returncode == 0
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@contextmanager
def another_namespace(keep: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of a mount namespace of its own, which has a copy of the mount."""
    with running([*apart(keep=keep), "sleep", "infinity"], stderr=subprocess.PIPE) as other:
        comm = Path(f"/proc/{other.pid}/comm")
        wait_for(lambda: comm.read_text() == "sleep\n", "other namespace", other)
        yield other


def test_another_mount_namespace_keeps_no_daemon_alive(machine: Machine) -> None:
    with machine.mounted() as mnt, another_namespace(mnt) as other:
        pid = machine.daemon
        done = machine.run("umount", str(mnt))
        assert (done.returncode, done.stderr) == (0, "")
        wait_until_gone(pid)
        assert other.poll() is None


def test_umount_names_where_else_a_tree_is_bound_and_leaves_it_there(machine: Machine) -> None:
    bound = machine.directory / "bound"
    bound.mkdir()
    with machine.mounted() as mnt:
        subprocess.run(["mount", "--bind", str(mnt), str(bound)], check=True)
        try:
            done = machine.run("umount", str(mnt))
            assert done.returncode == 3
            assert f"serves {bound} too: unmount that as well" in done.stderr
            assert (bound / "vmcore").read_bytes()[:4] == b"\x7fELF"
        finally:
            done = machine.run("umount", str(bound))
        assert (done.returncode, done.stderr) == (0, "")


_NAMED_WITH_A_FILE_OPEN = """
import sys
file = open(sys.argv[1])
open("/proc/self/comm", "wb").write(b"\\x1b[2K\\rok\\x9b1m\\n")
print("open", flush=True)
sys.stdin.read()
"""


def test_what_another_user_calls_a_process_cannot_act_on_the_terminal(machine: Machine) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with machine.mounted() as mnt:
        command = [sys.executable, "-c", _NAMED_WITH_A_FILE_OPEN, str(mnt / "vmcore")]
        with running(command, **pipes) as process:
            wait_for_line(process, "open")
            done = machine.run("umount", str(mnt))
        assert done.returncode == 3
        assert done.stderr == (
            f"vmcorefs: {mnt}: in use (\\x1b[2K\\rok\\x9b1m\\n({process.pid}));"
            " close it, or pass --lazy\n"
        )


def test_umount_of_a_busy_tree_names_who_uses_it_and_lazy_detaches(machine: Machine) -> None:
    with machine.mounted() as mnt:
        with (mnt / "vmcore").open("rb") as file:
            done = machine.run("umount", str(mnt))
            assert done.returncode == 3
            assert f"({os.getpid()})" in done.stderr
            assert "--lazy" in done.stderr
            assert machine.run("umount", "--lazy", str(mnt)).returncode == 0
            assert file.read(4) == b"\x7fELF"
        assert os.listdir(mnt) == []


def test_a_killed_daemon_leaves_an_error_and_umount_cleans_up(machine: Machine) -> None:
    with machine.mounted() as mnt:
        os.kill(machine.daemon, signal.SIGKILL)
        wait_until_gone(machine.daemon)
        with pytest.raises(OSError, match="connect") as error:
            os.listdir(mnt)
        # the second while the kernel still tears the connection down
        assert error.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        again = machine.mount()
        assert again.returncode == 3
        assert "has died; clean up with vmcorefs umount" in again.stderr
        assert machine.run("umount", str(mnt)).returncode == 0
        assert os.listdir(mnt) == []
    with machine.mounted() as mnt:
        assert (mnt / "vmcore").stat().st_size > 0


def test_a_second_mount_on_the_same_place_is_refused(machine: Machine) -> None:
    with machine.mounted():
        done = machine.mount()
        assert done.returncode == 3
        assert done.stderr == (
            f"vmcorefs: {machine.mountpoint}: a tree is mounted there already"
            f" (daemon {machine.daemon})\n"
        )


def test_a_mount_point_that_another_mount_has_taken_is_refused_until_that_is_done(
    machine: Machine,
) -> None:
    reservation = Reservation(str(machine.mountpoint))
    done = machine.mount()
    assert done.returncode == 3
    assert done.stderr == (
        f"vmcorefs: {machine.mountpoint}: another process mounts there just now ({os.getpid()})\n"
    )
    reservation.release()
    with machine.mounted():
        assert len(list_mounts_at(machine.mountpoint)) == 1


def test_of_two_mounts_at_once_one_succeeds_and_the_other_is_refused(machine: Machine) -> None:
    command = machine.command(
        "mount", "--log", str(machine.log), *machine.sources, str(machine.mountpoint)
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for _ in range(3):
        with running(command, **pipes) as one, running(command, **pipes) as other:
            said = [process.communicate(timeout=PATIENCE)[1] for process in (one, other)]
            assert sorted([one.returncode, other.returncode]) == [0, 3], said
        refusal = said[0] or said[1]
        assert "mounts there just now" in refusal or "is mounted there already" in refusal
        assert len(list_mounts_at(machine.mountpoint)) == 1
        assert machine.run("umount", str(machine.mountpoint)).returncode == 0


def list_mounts_at(mountpoint: Path) -> list[Mount]:
    return [mount for mount in list_mounts() if mount.mountpoint == str(mountpoint)]


_LOCKED_BY_NOBODY = """
import fcntl, os, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
os.setuid(65534)
fcntl.flock(directory, fcntl.LOCK_SH)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_lock_of_somebody_else_keeps_nobody_from_mounting(machine: Machine) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", _LOCKED_BY_NOBODY, str(machine.mountpoint)]
    with running(command, **pipes) as process:
        wait_for_line(process, "locked")
        with machine.mounted() as mnt:
            assert (mnt / "vmcore").read_bytes()[:4] == b"\x7fELF"


# what is between the mount and the loop that serves it, and goes wrong
_GOES_WRONG = """
import os, signal, sys
from vmcorefs.fuse import serve
from vmcorefs.cli import main

def fail(*_, **__):
    raise {error}

def stop(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
    return kept(*_, **__)

kept = serve.{name}
serve.{name} = {how}
main(sys.argv[1:])
"""


def _mount_by(script: str, machine: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    """Mount by a script in the place of the command."""
    command = [sys.executable, "-c", script, "mount", *options]
    return subprocess.run(
        [*command, *machine.sources, str(machine.mountpoint)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("name", ["_only", "_fuse_descriptors", "Switch", "Keeper", "_run"])
@pytest.mark.parametrize("where", ["--foreground", "--log=/dev/null"])
def test_whatever_goes_wrong_once_it_is_mounted_leaves_no_dead_mount(
    machine: Machine, name: str, where: str
) -> None:
    script = _GOES_WRONG.format(name=name, error="MemoryError('here')", how="fail")
    done = _mount_by(script, machine, where)
    assert done.returncode
    assert "MemoryError('here')" in done.stderr or "MemoryError: here" in done.stderr
    assert list_mounts_at(machine.mountpoint) == []
    assert os.listdir(machine.mountpoint) == []


@pytest.mark.parametrize("name", ["_only", "Switch", "Keeper"])
def test_a_signal_before_it_serves_leaves_no_dead_mount(machine: Machine, name: str) -> None:
    script = _GOES_WRONG.format(name=name, error="", how="stop")
    done = _mount_by(script, machine, "--log", str(machine.log))
    assert done.returncode in (0, 3)
    wait_for(lambda: list_mounts_at(machine.mountpoint) == [], "end of the mount")
    assert os.listdir(machine.mountpoint) == []
    assert "SIGTERM: unmounting" in machine.log.read_text()


def test_under_systemd_it_notifies_when_ready_and_when_stopping(machine: Machine) -> None:
    address = machine.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(PATIENCE)
        command = machine.command(
            "mount", "--foreground", *machine.sources, str(machine.mountpoint)
        )
        environment = {**os.environ, "NOTIFY_SOCKET": str(address)}
        with running(command, env=environment, stderr=subprocess.PIPE) as service:
            ready = manager.recv(4096).decode().splitlines()
            assert ready[:2] == ["READY=1", f"MAINPID={service.pid}"]
            assert (machine.mountpoint / "vmcore").stat().st_size > 0
            service.terminate()
            assert manager.recv(4096) == b"STOPPING=1"
            assert service.wait(PATIENCE) == 0
            assert service.stderr is not None
            assert service.stderr.read() == ""
    assert os.listdir(machine.mountpoint) == []


@pytest.mark.parametrize("plane", PLANES)
def test_an_image_that_shrinks_gives_eio_for_the_lost_bytes_only(
    machine: Machine, plane: str
) -> None:
    machine.expected_log = ["it ends there now", "are lost with"]
    with (
        machine.mounted("-o", f"plane={plane}") as mnt,
        (mnt / "oldmem").open("rb", buffering=0) as file,
    ):
        os.truncate(machine.directory / "ram", 0x700000)
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(file.fileno(), 4096, 0x700000)
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(file.fileno(), 4096, 0xC00000)
        assert os.pread(file.fileno(), 8, 0x6FFFF8) == (0x6FFFF8).to_bytes(8, "little")
        # a long read gives what precedes the lost bytes, then the error: never zeros
        whole = os.pread(file.fileno(), 0x100000, 0x680000)
        assert whole == (machine.directory / "ram").read_bytes()[0x680000:0x700000]
        assert (mnt / "vmcore").stat().st_size > 0
    log = machine.log.read_text()
    # the kernel serves alone in its plane, and tells the daemon nothing
    assert "ram: cannot read" in log or plane == "kernel"
    assert log.count("it ends there now") <= 3


def test_an_image_on_a_read_only_file_system_is_mounted(machine: Machine, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    subprocess.run(["mount", "--bind", str(machine.directory), str(frozen)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(frozen)], check=True)
        at = frozen
        sources = ["--map", str(at / "iomem"), "--backup", str(at / "lowmem"), str(at / "ram")]
        done = machine.run("mount", *sources, str(machine.mountpoint))
        assert done.returncode == 0, done.stderr
        assert (machine.mountpoint / "oldmem").stat().st_size > 0
        assert machine.run("umount", str(machine.mountpoint)).returncode == 0
    finally:
        subprocess.run(["umount", str(frozen)], check=True)


def test_a_block_device_is_an_image_too(machine: Machine) -> None:
    ram = str(machine.directory / "ram")
    loop = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", ram],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    try:
        iomem = str(machine.directory / "iomem")
        done = machine.run("mount", "--map", iomem, loop, str(machine.mountpoint))
        assert done.returncode == 0, done.stderr
        with (machine.mountpoint / "oldmem").open("rb") as file:
            file.seek(0xC00000)
            assert file.read(8) == (0xC00000).to_bytes(8, "little")
        assert machine.run("umount", str(machine.mountpoint)).returncode == 0
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)


def test_a_character_device_is_an_image_as_long_as_ram(machine: Machine) -> None:
    iomem = str(machine.directory / "iomem")
    done = machine.run("mount", "--map", iomem, "/dev/zero", str(machine.mountpoint))
    assert done.returncode == 0, done.stderr
    content = (machine.mountpoint / "oldmem").read_bytes()
    assert content == bytes(RAM_END)
    assert machine.run("umount", str(machine.mountpoint)).returncode == 0
