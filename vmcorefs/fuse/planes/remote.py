"""File systems that may stop answering: over a network, or served by a process."""

from __future__ import annotations

import re
from pathlib import Path

from vmcorefs.system.mountinfo import list_mounted

_TYPES = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "gpfs"),
        *("lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs"),
    }
)


def may_hang(descriptor: int) -> str | None:
    """The type of an opened file's file system, if it is one of these.

    A local disk that fails gives an error, after its driver's timeout.
    """
    try:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        mounted = list_mounted()
    except OSError:
        return None
    found = re.search(r"^mnt_id:\s*([0-9]+)$", info, re.MULTILINE)
    number = int(found[1]) if found else None
    fs_type = next((entry.fs_type for entry in mounted if entry.number == number), "")
    return fs_type if fs_type.partition(".")[0] in _TYPES else None
