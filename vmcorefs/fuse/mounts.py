"""Existing mounts of vmcorefs: finding them in /proc/self/mountinfo, and unmounting them.

A mount's source is ``vmcorefs:PID``, so the daemon is known without asking it: one that hangs or
has died could not answer.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from vmcorefs.errors import MountError
from vmcorefs.fuse.planes.linux import detach_mount
from vmcorefs.system.mountinfo import list_mounted

FS_TYPE = "fuse.vmcorefs"
DAEMON_NAME = "vmcorefs"
"""A daemon's name in /proc/PID/comm."""
_GRACE = 1.0
"""Seconds that a daemon gets to end by itself, which it does once its tree is mounted nowhere."""


_SOURCE = re.compile("vmcorefs:([0-9]{1,7})")  # PID_MAX_LIMIT (include/linux/threads.h)


class Mount(msgspec.Struct, frozen=True):
    """One mounted tree.

    Attributes:
        mountpoint: Its absolute path.
        pid: The daemon's process id, by the mount's source, which anybody can choose.
        owner: The user who mounted it, by the kernel's word.
    """

    mountpoint: str
    pid: int
    owner: int | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the daemon runs: a process with that id has /dev/fuse open, or its name."""
        return _has_fuse_open(self.pid)


def fsname(pid: int) -> str:
    """The mount source that names the daemon."""
    return f"vmcorefs:{pid}"


def list_mounts() -> list[Mount]:
    """Every mount of vmcorefs in this mount namespace, the newest last."""
    mounts = []
    for mounted in list_mounted():
        named = _SOURCE.fullmatch(mounted.source)
        if mounted.fs_type == FS_TYPE and named is not None:
            mounts.append(Mount(mounted.mountpoint, int(named[1]), mounted.owner))
    return mounts


def find_mount(path: str) -> Mount | None:
    """The vmcorefs mount at ``path``, the topmost one if several are stacked."""
    return _find_at(os.path.realpath(path))


def _find_at(mountpoint: str) -> Mount | None:
    found = [mount for mount in list_mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def check_mountpoint(path: str) -> str:
    """Check that a tree can be mounted at ``path``.

    Returns:
        The absolute path, symbolic links resolved.

    Raises:
        MountError: if it is not a directory, or a tree is mounted there already.
    """
    mount = find_mount(path)
    if mount is not None and mount.is_alive:
        raise MountError(f"{path}: a tree is mounted there already (daemon {mount.pid})")
    if mount is not None:
        raise MountError(
            f"{path}: a tree is mounted there whose daemon, {mount.pid}, has died; clean up with"
            f" vmcorefs umount {path}"
        )
    try:
        os.listdir(path)
    except OSError as error:
        raise MountError(f"{path}: cannot mount there: {error.strerror}") from error
    if not os.path.exists("/dev/fuse"):
        raise MountError(
            f"{path}: cannot mount: /dev/fuse is missing (modprobe fuse); vmcorefs extract works"
            " without it"
        )
    return os.path.realpath(path)


def unmount(path: str, *, lazy: bool, timeout: float) -> None:
    """Unmount the tree at ``path`` and wait until its daemon has gone.

    A mount namespace that was created meanwhile, as any user may, has a copy of the mount. It does
    not keep the daemon: that is told to end.

    Args:
        path: Its mount point.
        lazy: Detach it now, even if files are open; the daemon exits when the last one is closed,
            which is not waited for.
        timeout: Seconds to wait for the daemon.

    Raises:
        MountError: if no tree is mounted there, it is busy, or the daemon does not exit.
    """
    mount = find_mount(path)
    if mount is None:
        raise MountError(f"{path}: no tree of vmcorefs is mounted there")
    daemon = _open_daemon(mount.pid)
    try:
        _run_umount(mount.mountpoint, lazy=lazy)
        if daemon >= 0 and not lazy and not _end(daemon, mount, timeout):
            holders = ", ".join(_holders_of(mount.pid))
            why = f": the mount lives on in the namespace of {holders}" if holders else ""
            raise MountError(
                f"{path}: unmounted, but the daemon, {mount.pid}, still runs after {timeout:g} s"
                f"{why}"
            )
    finally:
        if daemon >= 0:
            os.close(daemon)


def unmount_own(mountpoint: str) -> bool:
    """Unmount this process's own tree, and say whether it is gone: only root can.

    libfuse would do it too, but from 3.17 on it starts umount(8) for that, as root of an unconfined
    daemon alone can.

    Args:
        mountpoint: Its absolute path. No link in it is resolved: nobody answers for the tree now.
    """
    mount = _find_at(mountpoint)
    if mount is not None and mount.pid == os.getpid():
        try:
            detach_mount(mountpoint)
        except OSError:
            return False
    return True


def _run_umount(mountpoint: str, *, lazy: bool) -> None:
    command = ["umount", "-i"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    option = {"umount": "-l", "fusermount3": "-z"}[command[0]]
    try:
        done = subprocess.run(
            [*command, *([option] if lazy else []), "--", mountpoint],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # it quotes the mount point
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise MountError(f"{mountpoint}: cannot run {command[0]}: {error.strerror}") from error
    if done.returncode == 0:
        return
    reason = done.stderr.strip().splitlines()[-1:] or [f"{command[0]} failed"]
    if "busy" in reason[0]:
        users = ", ".join(_users_of(mountpoint)) or "fuser -vm shows by what"
        raise MountError(f"{mountpoint}: in use ({users}); close it, or pass --lazy")
    raise MountError(f"{mountpoint}: {reason[0]}")


def _users_of(mountpoint: str) -> list[str]:
    """Processes with an open file or working directory in the mount: ``name(pid)``."""
    users = []
    prefix = mountpoint.rstrip("/") + "/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [process / "cwd", *(process / "fd").iterdir()]
            targets = [os.readlink(link) for link in links]
            name = _name_of(process)
        except OSError:
            continue
        if any(f"{target}/".startswith(prefix) for target in targets):
            users.append(f"{name}({process.name})")
    return users


def _holders_of(pid: int) -> Iterator[str]:
    """Processes whose mount namespace still has a daemon's mount: ``name(pid)``.

    A namespace that is created while a tree is mounted has a copy of it, which keeps it alive.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f" {fsname(pid)} " in (process / "mountinfo").read_text("utf-8", "replace"):
                yield f"{_name_of(process)}({process.name})"
        except OSError:
            continue


def _name_of(process: Path) -> str:
    return os.fsdecode((process / "comm").read_bytes().removesuffix(b"\n"))


def _open_daemon(pid: int) -> int:
    """A pidfd of the daemon, or -1 if it does not run: the id may have been reused."""
    try:
        daemon = os.pidfd_open(pid)
    except OSError:
        return -1
    if _has_fuse_open(pid):
        return daemon
    os.close(daemon)
    return -1


def _has_fuse_open(pid: int) -> bool:
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
        return any(os.readlink(fd) == "/dev/fuse" for fd in descriptors)
    except PermissionError:
        # only root can see a daemon's descriptors; everybody can see its name
        return _runs_by_name(pid)
    except OSError:
        return False


def _runs_by_name(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    # PID (NAME) STATE ...: one that has died keeps its name until its parent asks for it, which the
    # first process of a container may never do
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return name == DAEMON_NAME and rest.split()[0] not in ("Z", "X")


def _end(daemon: int, mount: Mount, timeout: float) -> bool:
    """Wait for the end of a daemon whose tree is unmounted; tell it if it does not end by itself.

    Only a process of the mount's owner: its number is the word of whoever mounted it.

    Raises:
        MountError: if the tree is mounted elsewhere too, as by mount(8)'s ``--bind``.
    """
    grace = min(_GRACE, timeout / 2)
    if _wait_gone(daemon, grace):
        return True
    others = [other.mountpoint for other in list_mounts() if other.pid == mount.pid]
    if others:
        raise MountError(
            f"{mount.mountpoint}: unmounted, but the daemon, {mount.pid}, serves"
            f" {', '.join(others)} too: unmount that as well"
        )
    if mount.owner is not None and user_of(mount.pid) == mount.owner:
        with suppress(OSError):
            signal.pidfd_send_signal(daemon, signal.SIGTERM)
    return _wait_gone(daemon, max(timeout - grace, 0))


def user_of(pid: int) -> int | None:
    """The real user of a process; None if it does not run."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return None
    found = re.search(r"^Uid:\t([0-9]+)\t", status, re.MULTILINE)  # the directory may be root's
    return int(found[1]) if found else None


def _wait_gone(daemon: int, timeout: float) -> bool:
    poller = select.poll()
    poller.register(daemon, select.POLLIN)
    return bool(poller.poll(timeout * 1000))
