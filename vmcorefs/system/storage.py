"""What the bytes of a file or device lie in: a disk, a file behind a loop device (sysfs)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vmcorefs.system.mountinfo import mount_of

_BLOCK = "/sys/dev/block"
_BTRFS = "/sys/fs/btrfs"
Place = tuple[str, int, int]
"""``block`` or ``character`` and the device number, or ``file``, its device and its inode."""


def place_of(status: os.stat_result) -> Place:
    """What the result of stat(2) is about: the same for every name and mount of it."""
    if stat.S_ISBLK(status.st_mode):
        return "block", status.st_rdev, 0
    if stat.S_ISCHR(status.st_mode):
        return "character", status.st_rdev, 0
    return "file", status.st_dev, status.st_ino


def beneath(place: Place) -> set[Place]:
    """Everything that may change when bytes of ``place`` are written, itself included."""
    found: set[Place] = set()
    todo = [place]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += [disk_of(one[1])] if one[0] == "file" else _under(one)
    return found


def disk_of(device: int) -> Place:
    """The device of a file system, from ``st_dev``."""
    return "block", device, 0


def disks_at(path: str) -> set[Place]:
    """The devices of the file system at a path.

    That of a btrfs is not in ``st_dev``, which has a number of the subvolume's own; it may have
    several.

    Raises:
        OSError: if there is nothing.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        device = os.fstat(descriptor).st_dev
        mounted = mount_of(descriptor) if not os.major(device) else None
    finally:
        os.close(descriptor)
    found = {disk_of(device)}
    if mounted is not None and os.path.isabs(mounted.source):
        with suppress(OSError):
            found.add(place_of(os.stat(mounted.source)))
    for one in Path(_BTRFS).glob("*/devices"):
        members = {place for part in one.glob("*/dev") for place in _read_number(part)}
        found |= members if members & found else set()
    return found


def written_through(path: str) -> str | None:
    """The file that changes of a file on an overlayfs are written to, in its upper directory.

    Args:
        path: A file, or one that is to be made.
    """
    directory, name = os.path.split(os.path.realpath(path))
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        mounted = mount_of(descriptor)
    finally:
        os.close(descriptor)
    if mounted is None or not mounted.upper:
        return None
    inside = os.path.relpath(directory, mounted.mountpoint)
    return os.path.normpath(os.path.join(f"{mounted.upper}{mounted.root}", inside, name))


def _under(place: Place) -> Iterator[Place]:
    """What a block device is made of: the disk of a partition, the parts of LVM, a loop's file."""
    kind, device, _ = place
    directory = Path(_BLOCK, f"{os.major(device)}:{os.minor(device)}")
    if kind != "block" or not directory.exists():
        return
    if (directory / "partition").exists():
        yield from _read_number(directory.resolve().parent / "dev")
    for part in directory.glob("slaves/*"):
        yield from _read_number(part / "dev")
    try:
        yield place_of(os.stat((directory / "loop/backing_file").read_text().rstrip("\n")))
    except (OSError, ValueError):
        return  # it is no loop device, or its file has no name here


def _read_number(path: Path) -> Iterator[Place]:
    try:
        major, minor = path.read_text().split(":")
        yield disk_of(os.makedev(int(major), int(minor)))
    except (OSError, ValueError):
        return
