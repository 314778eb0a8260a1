"""How much may still be written where a file is, where that is certain; and having it set aside."""

from __future__ import annotations

import ctypes
import errno
import os

from vmcorefs.system.mountinfo import mount_of

_PLAIN = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "jfs", "reiserfs", "nilfs2", "ocfs2", "gfs2"),
        *("vfat", "msdos", "exfat", "tmpfs", "overlay"),
    }
)
"""File systems on which a byte takes a byte. Others may compress, or know nothing of their disk."""


_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def reserve(descriptor: int, size: int) -> None:
    """Have room set aside for the first ``size`` bytes of an open file, whose size stays as it is.

    ``find_room`` may promise too much: what is kept back may be another user's than root's (ext4's
    ``resuid``), and quotas are in no ``statfs``. Where a file system sets nothing aside, nothing
    happens.

    Raises:
        OSError: if there is no room; what was set aside is free again.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # posix_fallocate, which Python has, writes to every block where the file system cannot do it
    fallocate = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if fallocate is None:
        return
    number = errno.EINTR
    while number == errno.EINTR:  # by a signal, which is told to whoever waits for it
        if fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)) == 0:
            return
        number = ctypes.get_errno()
    if number not in _CANNOT:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size)
        raise OSError(number, os.strerror(number))


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
