"""Mounted file systems, from /proc/self/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mounted(msgspec.Struct, frozen=True):
    """One mounted file system.

    Attributes:
        mountpoint: Where it is mounted.
        root: The directory of the file system that is mounted there; ``/`` for all of it.
        source: The device, or another name instead of one.
        fs_type: Its type.
        device: Its device number, ``MAJOR:MINOR``.
        is_read_only: Whether it is mounted read-only.
        number: The mount's id, ``mnt_id`` in the fdinfo of open files.
        owner: Of a FUSE mount: who mounted it, by the kernel's own word (``user_id``).
        upper: Of overlayfs: the directory that changes are written to; empty if there is none.
    """

    mountpoint: str
    root: str
    source: str
    fs_type: str
    device: str
    is_read_only: bool
    number: int
    owner: int | None = None
    upper: str = ""


def list_mounted(path: str = MOUNTINFO) -> list[Mounted]:
    """Everything that is mounted in this mount namespace, in order of mounting.

    Raises:
        OSError: if it cannot be read.
    """
    mounted = []
    # not splitlines(): "\n" is the only line end that the kernel escapes (fs/proc_namespace.c)
    for line in Path(path).read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]:
        front, _, back = line.partition(" - ")
        fields, (fs_type, source, options) = front.split(" "), back.split(" ", 2)
        flags = {*fields[5].split(","), *options.split(",")}
        owner = next((int(one[8:]) for one in flags if one.startswith("user_id=")), None)
        upper = next((one[9:] for one in flags if one.startswith("upperdir=")), "")
        mounted.append(
            Mounted(
                unescape(fields[4]),
                unescape(fields[3]),
                unescape(source),
                fs_type,
                fields[2],
                "ro" in flags,
                int(fields[0]),
                owner,
                unescape(upper),
            )
        )
    return mounted


def mount_of(descriptor: int) -> Mounted | None:
    """The mount that an open file was reached by; None if this namespace does not have it.

    Raises:
        OSError: if that cannot be read.
    """
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "mnt_id":
            return next((one for one in list_mounted() if one.number == int(value)), None)
    return None


def unescape(text: str) -> str:
    r"""Decode a field of mountinfo or fstab(5), in which a blank is written ``\040``."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
