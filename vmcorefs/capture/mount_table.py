"""What is mounted where, and what will be: /proc/self/mountinfo and /etc/fstab."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = "/proc/self/mountinfo"
FSTAB = "/etc/fstab"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mounted file system.

    Attributes:
        mountpoint: Where.
        root: The directory of the file system that is mounted there; ``/`` is all of it.
        source: The device, or what stands for one.
        fs_type: Its type.
        device: Its device number, ``MAJOR:MINOR``.
        is_read_only: Whether it is mounted read-only.
    """

    mountpoint: str
    root: str
    source: str
    fs_type: str
    device: str
    is_read_only: bool


def list_mounted(path: str = MOUNTINFO) -> list[Mounted]:
    """Everything that is mounted, in order of mounting (proc_pid_mountinfo(5))."""
    mounted = []
    for line in Path(path).read_text("utf-8", "surrogateescape").splitlines():
        front, _, back = line.partition(" - ")
        fields, (fs_type, source, options) = front.split(" "), back.split(" ")
        flags = {*fields[5].split(","), *options.split(",")}
        mounted.append(
            Mounted(
                _unescape(fields[4]),
                _unescape(fields[3]),
                _unescape(source),
                fs_type,
                fields[2],
                "ro" in flags,
            )
        )
    return mounted


def find_mounted(path: str, mounted: list[Mounted]) -> Mounted | None:
    """The file system that ``path``, which need not exist, lies on."""
    real = os.path.realpath(path)
    found = [entry for entry in mounted if _is_below(real, entry.mountpoint)]
    return max(reversed(found), key=lambda entry: len(entry.mountpoint), default=None)


def fstab_mountpoints(path: str = FSTAB) -> set[str]:
    """The mount points that a boot mounts: /etc/fstab without ``noauto``."""
    try:
        lines = Path(path).read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return set()
    entries = [line.split() for line in lines if not line.lstrip().startswith("#")]
    return {
        _unescape(entry[1])
        for entry in entries
        if len(entry) >= 3 and "noauto" not in (entry[3] if len(entry) > 3 else "").split(",")
    }


def _is_below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
