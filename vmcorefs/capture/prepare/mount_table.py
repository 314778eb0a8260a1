"""Which mount a path lies on, and what a boot mounts (/etc/fstab)."""

from __future__ import annotations

import os
from pathlib import Path

from vmcorefs.system.mountinfo import Mounted, unescape

FSTAB = "/etc/fstab"


def find_mounted(path: str, mounted: list[Mounted]) -> Mounted | None:
    """The file system that ``path``, which need not exist, lies on."""
    real = os.path.realpath(path)
    found = [entry for entry in mounted if _is_below(real, entry.mountpoint)]
    return max(reversed(found), key=lambda entry: len(entry.mountpoint), default=None)


def fstab_mountpoints(path: str = FSTAB) -> set[str]:
    """The mount points that a boot mounts: /etc/fstab without ``noauto``."""
    try:
        lines = Path(path).read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return set()
    entries = [line.split() for line in lines if not line.lstrip().startswith("#")]
    return {
        unescape(entry[1])
        for entry in entries
        if len(entry) >= 3 and "noauto" not in (entry[3] if len(entry) > 3 else "").split(",")
    }


def _is_below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")
