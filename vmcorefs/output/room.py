"""How much may still be written where a file is, where that is certain."""

from __future__ import annotations

import os

from vmcorefs.system.mountinfo import mount_of

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
        mounted = mount_of(descriptor)
        if mounted is None or mounted.fs_type not in _PLAIN:
            return None
        status = os.fstatvfs(descriptor)
    except OSError:
        return None
    # what is kept for root is root's
    blocks = status.f_bfree if os.geteuid() == 0 else status.f_bavail
    return blocks * status.f_frsize if status.f_blocks else None  # 0: it has no limit
