"""How much may still be written where a file is, where that is certain."""

from __future__ import annotations

import os
from pathlib import Path

from vmcorefs.system.mountinfo import list_mounted

_PLAIN = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "jfs", "reiserfs", "nilfs2", "ocfs2", "gfs2"),
        *("vfat", "msdos", "exfat", "tmpfs", "overlay"),
    }
)
"""File systems on which a byte takes a byte. Others may compress, or know nothing of their disk."""


def find_room(descriptor: int) -> int | None:
    """Bytes that may still be written to the file system of an open file.

    None if more may fit than it says: where bytes are compressed, and where that is not known.
    """
    try:
        if _type_of(descriptor) not in _PLAIN:
            return None
        status = os.fstatvfs(descriptor)
    except OSError:
        return None
    # what is kept for root is root's
    blocks = status.f_bfree if os.geteuid() == 0 else status.f_bavail
    return blocks * status.f_frsize if status.f_blocks else None  # 0: it has no limit


def _type_of(descriptor: int) -> str | None:
    """The type of its file system, by the mount (``mnt_id``): a device may be mounted twice."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "mnt_id":
            return {one.number: one.fs_type for one in list_mounted()}.get(int(value))
    return None
