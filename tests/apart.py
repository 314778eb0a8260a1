"""Mount namespaces of their own, which leave nothing behind."""

from __future__ import annotations

from vmcorefs.mountinfo import list_mounted

# unshare makes every mount private by way of the root. In a plain chroot that is no mount point; it
# is made one below a mount that is private itself, where nobody else sees it
_ROOT = (
    "mount --make-rprivate /proc && mount --rbind / /proc/fs && mount --make-rprivate /proc/fs &&"
    ' exec chroot /proc/fs "$@"'
)


def apart() -> list[str]:
    """What runs the command behind it in a mount namespace of its own."""
    if any(entry.mountpoint == "/" for entry in list_mounted()):
        return ["unshare", "--mount"]
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _ROOT, "sh"]
