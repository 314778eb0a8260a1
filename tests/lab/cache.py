"""Captures that outlive the process that made them, so that tests and demos start at once.

A capture is found again by what went into it: the recipe, the kernel package and the lab's own
sources. The newest few are kept; one that a living process has asked for is never removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

from tests.lab.build import ATTEMPTS, TIMEOUT, build_snapshot
from tests.lab.host import (
    LOG,
    LabError,
    cache_root,
    guest_of,
    locked,
    open_directory,
    remove_unused,
    sweep,
)
from tests.lab.kernels import Kernel, kernel
from tests.lab.recipe import Recipe
from tests.lab.snapshot import Capture, Snapshot, as_capture, load_snapshot

KEEP: Final = 24

_claims: dict[Path, int] = {}
"""The directories this process uses, with the descriptor whose lock says so until it ends."""


def cached_capture(
    recipe: Recipe, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS
) -> Capture:
    """Return a capture of this recipe, made now only if the cache has none.

    Its files belong to all who use the cache: read them, and write elsewhere.

    Args:
        recipe: what to crash, and how.
        timeout: seconds for each attempt.
        attempts: how often to try.

    Raises:
        LabError: as ``make_capture`` does.
        GuestError: as ``make_capture`` does.
    """
    if not recipe.crashes:
        raise LabError(f"{recipe}: crashes nothing; cached_snapshot is for this one")
    return as_capture(cached_snapshot(recipe, timeout=timeout, attempts=attempts))


def cached_snapshot(
    recipe: Recipe, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS
) -> Snapshot:
    """Do as ``cached_capture`` does, with any recipe; a ``Capture`` comes of one that crashes."""
    captures = cache_root() / "captures"
    name = f"{recipe.arch}-{recipe.kernel}-{recipe.memory}-{recipe.load}-{_key(recipe)}"
    directory = captures / name
    if not _claim(directory):
        with guest_of(name.rpartition("-")[0]):
            if not _claim(directory):  # nobody else made it while we waited
                build_snapshot(recipe, directory, timeout=timeout, attempts=attempts)
                _claim(directory)
        with locked("captures"):
            _prune(captures)
    return load_snapshot(directory)


def _key(recipe: Recipe) -> str:
    used: Kernel = kernel(recipe.kernel, recipe.arch)
    digest = hashlib.sha256(msgspec.json.encode((recipe, used)))
    here = Path(__file__).parent
    sources = [path for path in here.glob("*.py") if not path.name.startswith("test_")]
    for source in sorted([*sources, here / "init", here / "workload.c"]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _claim(directory: Path) -> bool:
    """Keep a capture from being removed while this process lives; False if there is none."""
    if directory not in _claims:
        try:
            _claims[directory] = open_directory(directory)
        except FileNotFoundError:
            return False
        fcntl.flock(_claims[directory], fcntl.LOCK_SH)
    try:
        os.utime(directory)  # used last now
        if directory.samefile(f"/proc/self/fd/{_claims[directory]}"):
            return True
    except FileNotFoundError:
        pass
    # it was removed before we had the lock, or by hand, and perhaps made anew
    os.close(_claims.pop(directory))
    return False


def _prune(captures: Path) -> None:
    """Remove all but the captures used last; the caller holds the lock ``captures``."""
    sweep(captures)
    finished = [entry for entry in captures.iterdir() if not entry.name.startswith(".")]
    for old in sorted(finished, key=lambda entry: entry.stat().st_mtime, reverse=True)[KEEP:]:
        if remove_unused(old):
            LOG.info("removed %s: the cache keeps %s captures", old, KEEP)
