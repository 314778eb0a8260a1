"""Directories that outlive the run that made them, found again by what went into them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from tests.lab.host import (
    LOG,
    LabError,
    building,
    cache_root,
    locked,
    open_directory,
    remove_unused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_PACKAGES: Final = {
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
}
_claims: Final[list[int]] = []
"""Descriptors whose locks keep what this process uses, until it ends."""


def tool(name: str) -> str:
    """Find a program of the host that ``tests.lab.host`` does not know.

    Raises:
        LabError: if it is not there; the message names its Debian package.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        raise LabError(f"{name}: not found on {path}; install Debian's {_PACKAGES[name]}")
    return found


def digest(parts: Iterable[bytes]) -> str:
    """Return a short name for all of the parts, in their order."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()[:16]


def files_below(*roots: Path) -> list[bytes]:
    """Return names and contents of all files of directories, for ``digest``."""
    parts = []
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                mode = path.stat().st_mode & 0o111
                parts += [f"{path.relative_to(root)} {mode:o}".encode(), path.read_bytes()]
    return parts


def kept(kind: str, key: str, build: Callable[[Path], None], *, keep: int = 2) -> Path:
    """Return the directory of a key, built now only if the cache has none.

    Args:
        kind: of directory; one process at a time builds or removes within a kind.
        key: all that the content depends on.
        build: fills an empty directory, which is renamed afterwards.
        keep: how many of the kind stay: those used last, and all that are in use.
    """
    final = cache_root() / kind / key
    if not _claim(final):
        with locked(kind):
            if not _claim(final):  # nobody else made it while we waited
                with building(final) as partial:
                    LOG.info("making %s", final)
                    build(partial)
                _claim(final)
            _prune(final.parent, keep)
    return final


def _claim(directory: Path) -> bool:
    """Keep a directory from being removed while this process lives; False if there is none."""
    try:
        descriptor = open_directory(directory)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _claims.append(descriptor)
        os.utime(directory)  # used last now
        return directory.samefile(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return False


def _prune(parent: Path, keep: int) -> None:
    """Remove all but those used last; the caller holds the kind's lock."""
    finished = [entry for entry in parent.iterdir() if not entry.name.startswith(".")]
    for old in sorted(finished, key=lambda entry: entry.stat().st_mtime, reverse=True)[keep:]:
        if remove_unused(old):
            LOG.info("removed %s: the cache keeps %s in %s", old, keep, parent)
