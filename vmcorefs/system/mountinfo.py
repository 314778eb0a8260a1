"""What is mounted, as /proc/self/mountinfo has it (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mounted(msgspec.Struct, frozen=True):
    """One mounted file system.

    Attributes:
        mountpoint: Where.
        root: The directory of the file system that is mounted there; ``/`` is all of it.
        source: The device, or what stands for one.
        fs_type: Its type.
        device: Its device number, ``MAJOR:MINOR``.
        is_read_only: Whether it is mounted read-only.
        number: The mount's own, as ``mnt_id`` of an opened file's fdinfo has it.
    """

    mountpoint: str
    root: str
    source: str
    fs_type: str
    device: str
    is_read_only: bool
    number: int


def list_mounted(path: str = MOUNTINFO) -> list[Mounted]:
    """Everything that is mounted in this mount namespace, in order of mounting.

    Raises:
        OSError: if it cannot be read.
    """
    mounted = []
    # the kernel escapes no other line ends than its own (fs/proc_namespace.c)
    for line in Path(path).read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]:
        front, _, back = line.partition(" - ")
        fields, (fs_type, source, options) = front.split(" "), back.split(" ", 2)
        flags = {*fields[5].split(","), *options.split(",")}
        mounted.append(
            Mounted(
                unescape(fields[4]),
                unescape(fields[3]),
                unescape(source),
                fs_type,
                fields[2],
                "ro" in flags,
                int(fields[0]),
            )
        )
    return mounted


def unescape(text: str) -> str:
    r"""A field of mountinfo or fstab(5), in which a blank stands as ``\040``."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
