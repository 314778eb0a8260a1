"""Checks of the target: will the capture kernel find it, may it write there, is there room?"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from vmcorefs.capture.estimate import estimate_dump
from vmcorefs.capture.prepare.mount_table import find_mounted, fstab_mountpoints
from vmcorefs.capture.prepare.report import Check, error, ok, warning
from vmcorefs.capture.programs import run
from vmcorefs.capture.run.filesystem import device_path, free_bytes
from vmcorefs.capture.settings import Settings
from vmcorefs.core.space.units import format_size
from vmcorefs.output.ssh import parse_place
from vmcorefs.system.mountinfo import Mounted, list_mounted

_IN_MEMORY = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs", "overlay", "squashfs"})
_ON_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p"})
_MISSING = "missing"


def check_target(settings: Settings) -> Iterator[Check]:
    """Check what ``[target]`` and ``[keep]`` name."""
    target = settings.target
    if target.scheme == "ssh":
        yield from _check_ssh(settings)
    elif target.url:
        yield warning(
            "target", f"{target.shown_url}: not tried: only a save shows whether it works"
        )
    elif target.filesystem:
        yield from _check_filesystem(settings)
    else:
        yield from _check_directory(settings, target.directory)


def _check_directory(settings: Settings, path: str) -> Iterator[Check]:
    """A directory on what is mounted anyway."""
    mounted = find_mounted(path, list_mounted())
    if mounted is None:
        yield warning(
            "target",
            f"{path}: in a chroot whose root is no mount point, nothing tells what it lies on:"
            " whether the capture kernel finds it was not looked at",
        )
    else:
        yield from _check_kind(settings, path, mounted)
    if not os.path.isdir(path):
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            yield error("target", f"{path}: no such directory, nor is {parent}")
            return
        yield ok("target", f"{path}: will be made")
        path = parent
    elif (mounted and mounted.is_read_only) or not os.access(path, os.W_OK | os.X_OK):
        where = f" ({mounted.mountpoint}, {mounted.fs_type})" if mounted else ""
        yield error("target", f"{path}: not writable{where}")
        return
    else:
        where = f" ({mounted.source}, {mounted.fs_type})" if mounted else ""
        yield ok("target", f"{path}: writable{where}")
    yield _check_space(settings, path)


def _check_kind(settings: Settings, path: str, mounted: Mounted) -> Iterator[Check]:
    if mounted.fs_type in _IN_MEMORY:
        yield error("target", f"{path}: on {mounted.fs_type}, which does not outlive a reboot")
    elif mounted.fs_type in _ON_NETWORK:
        yield warning("target", f"{path}: on {mounted.fs_type}: the capture kernel needs a network")
    elif mounted.mountpoint != "/" and (
        settings.load.save_from == "root" and mounted.mountpoint not in fstab_mountpoints()
    ):
        yield error(
            "target",
            f"{path}: {mounted.mountpoint} is not in /etc/fstab: the capture kernel will not mount"
            " it; name it as [target] filesystem",
        )
    if _is_encrypted(mounted.device):
        yield warning(
            "target",
            f"{path}: on an encrypted device: nobody can type its passphrase in the capture kernel",
        )


def _check_filesystem(settings: Settings) -> Iterator[Check]:
    """A file system that is mounted for the dump."""
    target = settings.target
    path = device_path(target.filesystem)
    if not os.path.exists(path):
        yield error("target", f"{target.filesystem}: no such device ({path})")
        return
    device = os.path.realpath(path)
    number = os.stat(device).st_rdev
    numbers = f"{os.major(number)}:{os.minor(number)}"
    if _is_encrypted(numbers):
        yield warning("target", f"{target.filesystem}: on an encrypted device (see docs)")
    found = [
        entry
        for entry in list_mounted()
        if entry.device == numbers or os.path.realpath(entry.source) == device
    ]
    if not found:
        yield warning(
            "target", f"{target.filesystem}: {device}, not mounted: its room was not looked at"
        )
        return
    whole = [entry for entry in found if entry.root == "/"]
    if not whole:
        yield ok("target", f"{target.filesystem}: {device}, in part mounted")
        return
    directory = os.path.join(whole[0].mountpoint, target.directory.lstrip("/"))
    if not os.path.isdir(os.path.dirname(directory)):
        yield error("target", f"{target.directory}: no such directory on {target.filesystem}")
        return
    yield ok("target", f"{target.filesystem}: {device}, {directory} here")
    yield _check_space(settings, os.path.dirname(directory))


def _check_space(settings: Settings, path: str) -> Check:
    size, free = estimate_dump(settings.dump), free_bytes(path)
    spare = settings.keep.free_bytes
    message = (
        f"{path}: {format_size(free)} free; a dump now takes at most some {format_size(size)}"
        f" before compression, and {format_size(spare)} stay free"
    )
    return ok("space", message) if free >= size + spare else warning("space", message)


def _is_encrypted(device: str) -> bool:
    """Whether a device, MAJOR:MINOR, is dm-crypt, or lies on one."""
    base = Path("/sys/dev/block") / device
    try:
        if (base / "dm" / "uuid").read_text().startswith("CRYPT-"):
            return True
    except OSError:
        pass
    try:
        below = [(entry / "dev").read_text().strip() for entry in (base / "slaves").iterdir()]
    except OSError:
        return False
    return any(_is_encrypted(number) for number in below)


def _check_ssh(settings: Settings) -> Iterator[Check]:
    target = settings.target
    place = parse_place(target.url.rstrip("/"))
    path = shlex.quote(place.path)
    missing = f"test -e {path} || {{ echo {_MISSING}; exit; }}"
    script = f"{missing}; test -d {path} && test -w {path} && df -Pk {path}"
    done = run(place.command(script), target.url, target.wait_seconds + 30)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no writable directory there"])[-1]
        yield error("target", f"{target.url}: {reason}")
        return
    if done.stdout.strip() == _MISSING:
        yield warning(
            "target", f"{target.url}: no such directory there: saving will try to make it"
        )
        return
    yield ok("target", f"{target.url}: answers without asking anything, and may be written")
    fields = (done.stdout.strip().splitlines() or [""])[-1].split()
    if len(fields) >= 4 and fields[3].isdigit():
        free, size = int(fields[3]) << 10, estimate_dump(settings.dump)
        message = (
            f"{target.url}: {format_size(free)} free; a dump takes at most {format_size(size)}"
        )
        yield ok("space", message) if free >= size else warning("space", message)
    else:
        yield warning("space", f"{target.url}: df does not say how much is free there")
