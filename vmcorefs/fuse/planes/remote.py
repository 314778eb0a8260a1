"""File systems that may stop answering: over a network, or served by a process."""

from __future__ import annotations

import re
from pathlib import Path

_TYPES = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "gpfs"),
        *("lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs"),
    }
)


def may_hang(descriptor: int) -> str | None:
    """The type of the file system that an opened file lies on, if it is one of these.

    A local disk that fails gives an error, after what its driver allows.
    """
    try:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    found = re.search(r"^mnt_id:\s*([0-9]+)$", info, re.MULTILINE)
    fs_type = _type_of(mounts, found[1]) if found else None
    return fs_type if fs_type and fs_type.partition(".")[0] in _TYPES else None


def _type_of(mounts: str, number: str) -> str | None:
    for line in mounts.splitlines():
        front, _, back = line.partition(" - ")  # proc_pid_mountinfo(5)
        if front.split(" ", 1)[0] == number:
            return back.split(" ", 1)[0]
    return None
