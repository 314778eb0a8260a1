"""File systems that may stop answering: over a network, or served by a process."""

from __future__ import annotations

from vmcorefs.system.mountinfo import mount_of

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
        mounted = mount_of(descriptor)
    except OSError:
        return None
    fs_type = mounted.fs_type if mounted is not None else ""
    return fs_type if fs_type.partition(".")[0] in _TYPES else None
