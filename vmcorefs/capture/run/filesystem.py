"""Where dumps go: a directory, on a file system that is mounted for it if the settings name one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vmcorefs.capture.programs import run
from vmcorefs.capture.settings import TargetSettings
from vmcorefs.errors import ConfigError, OutputError

MOUNTPOINT = "/run/vmcorefs-target"
_UNMOUNT_SECONDS = 60
_TAGS = frozenset({"UUID", "LABEL", "PARTUUID", "PARTLABEL"})


@contextmanager
def open_directory(target: TargetSettings) -> Iterator[str]:
    """Give the directory for dumps, its file system mounted; unmount that at the end.

    Raises:
        OutputError: if the device does not come, it cannot be mounted, or there is no directory.
    """
    if not target.filesystem:
        yield _make_directory(target.directory)
        return
    device = wait_for_device(target.filesystem, target.wait_seconds)
    mountpoint = MOUNTPOINT
    os.makedirs(mountpoint, mode=0o700, exist_ok=True)
    mount(device, mountpoint, target.type, target.options)
    try:
        yield _make_directory(os.path.join(mountpoint, target.directory.lstrip("/")))
    finally:
        unmount(mountpoint)


def _make_directory(path: str) -> str:
    # no parents: a target that is missing must not become a directory on what lies below it
    try:
        if not os.path.isdir(path):
            os.mkdir(path, mode=0o700)
    except OSError as error:
        raise OutputError(f"{path}: cannot make the target directory: {error.strerror}") from error
    return path


def device_path(filesystem: str) -> str:
    """The path that udev gives a file system: ``UUID=X`` is /dev/disk/by-uuid/X.

    Raises:
        ConfigError: if it is not one of these.
    """
    if filesystem.startswith("/dev/"):
        return filesystem
    key, _, value = filesystem.partition("=")
    if key not in _TAGS or not value:
        raise ConfigError(
            f"{filesystem!r}: expected UUID=, LABEL=, PARTUUID=, PARTLABEL= or /dev/..."
        )
    return f"/dev/disk/by-{key.lower()}/{value}"


def wait_for_device(filesystem: str, seconds: float) -> str:
    """Wait until a file system's device is there; give its path.

    Raises:
        OutputError: if it is not there after ``seconds``.
    """
    path = device_path(filesystem)
    end = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() >= end:
            raise OutputError(f"{filesystem}: no such device after {seconds:g} s ({path})")
        time.sleep(0.2)
    return path


def mount(device: str, mountpoint: str, fs_type: str = "", options: str = "") -> None:
    """Mount the file system that lies on ``device``.

    Raises:
        OutputError: with mount's own words, if that fails.
    """
    command = ["mount"]
    command += ["-t", fs_type] if fs_type else []
    command += ["-o", options] if options else []
    _run([*command, "--", device, mountpoint], f"{device}: cannot mount")


def unmount(mountpoint: str) -> None:
    """Unmount it, which writes everything out.

    Raises:
        OutputError: if that fails.
    """
    _run(["umount", "--", mountpoint], f"{mountpoint}: cannot unmount", _UNMOUNT_SECONDS)


def _run(command: list[str], failure: str, timeout: float | None = None) -> None:
    done = run(command, failure, timeout)
    if done.returncode:
        # mount says what is wrong first, and then where to look further
        reason = (done.stderr.strip().splitlines() or [f"{command[0]} failed"])[0]
        raise OutputError(f"{failure}: {reason}")


def free_bytes(path: str) -> int:
    """Bytes that may still be written to the file system of ``path``."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
