"""Mount namespaces of their own, which leave nothing behind."""

from __future__ import annotations

from pathlib import Path

from vmcorefs.mountinfo import list_mounted

# unshare makes every mount private by way of the root. In a plain chroot that is no mount point; it
# is made one below a mount that is private itself, where nobody else sees it
_ROOT = (
    "mount --make-rprivate /proc && mount --rbind / /proc/fs && mount --make-rprivate /proc/fs &&"
    ' exec chroot /proc/fs "$@"'
)
# a tree of another test would live on here, and its umount would wait
_DROP = """
keep=$1; shift
while read -r source at type _; do
  [ "$type" != fuse.vmcorefs ] || [ "$at" = "$keep" ] || umount -l "$at"
done </proc/self/mounts
exec "$@"
"""


def apart(keep: Path | None = None) -> list[str]:
    """What runs the command behind it in a mount namespace of its own.

    Args:
        keep: Where a tree is mounted that is to be seen there too.
    """
    drop = ["sh", "-c", _DROP, "sh", str(keep)]
    if any(entry.mountpoint == "/" for entry in list_mounted()):
        return ["unshare", "--mount", *drop]
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _ROOT, "sh", *drop]
