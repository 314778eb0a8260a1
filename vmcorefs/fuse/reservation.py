"""A mount point is taken by one ``mount`` at a time, from the check until the tree is mounted.

Mounts stack: without this, two commands at once would both find the place free, and the later tree
would hide the earlier one. The lock is flock(2)'s on the directory itself, whatever path leads to
it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from vmcorefs.errors import MountError
from vmcorefs.fuse.mounts import check_mountpoint, user_of

_LOCKS = "/proc/locks"


class Reservation:
    """A checked mount point that no other ``mount`` gets meanwhile; a child process inherits it.

    Attributes:
        mountpoint: Its absolute path, symbolic links resolved.
    """

    def __init__(self, path: str) -> None:
        """Lock it, and check that a tree can be mounted there.

        Raises:
            MountError: if another process mounts there just now, a tree is mounted there already,
                or it is no directory.
        """
        check_mountpoint(path)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise MountError(f"{path}: cannot mount there: {error.strerror}") from error
        try:
            _lock(self._fd, path)
            self.mountpoint = check_mountpoint(path)  # again: one may have been mounted meanwhile
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Let others have it, now that the tree is mounted: its mount is what they find."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(descriptor: int, path: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holders = _holders(os.fstat(descriptor).st_ino)
        if holders:
            who = ", ".join(map(str, holders))
            raise MountError(f"{path}: another process mounts there just now ({who})") from error
        # a user who may not mount there must not keep others from it
    except OSError as error:
        # a file system without locks
        if error.errno not in (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise MountError(f"{path}: cannot lock it: {error.strerror}") from error


def _holders(inode: int, locks: str = _LOCKS) -> list[int]:
    """Processes of root's or of this user that hold a lock of an inode (proc_locks(5))."""
    holders = []
    for line in Path(locks).read_text("ascii", "replace").splitlines():
        fields = line.split()
        # the device is not compared: btrfs and overlayfs have another one in stat(2)
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            pid = int(fields[4])
            if user_of(pid) in (0, os.geteuid()):
                holders.append(pid)
    return holders
