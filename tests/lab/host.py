"""What the lab needs of the host: its programs, its cache directory, locks and atomic directories.

Two processes may use the lab at once, so all that is shared is built aside and renamed, and every
lock is an ``flock``: it ends with the process that holds it, however that process ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOG = logging.getLogger("vmcorefs.lab")

PARTIAL = ".partial"
"""Suffix of a directory that is being built; it is never taken for a finished one."""

_PACKAGES = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
    "kexec": "kexec-tools",
    "ldd": "libc-bin",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-ppc64": "qemu-system-ppc",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-s390x": "qemu-system-misc",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "tar": "tar",
    "xz": "xz-utils",
}
_SYSTEM_DIRECTORIES = ("/usr/sbin", "/sbin")
_COMMAND_SECONDS = 1800


class LabError(Exception):
    """The lab cannot do what was asked; trying again would not help."""


class GuestError(LabError):
    """The guest failed this time; under emulation the next attempt may well succeed."""


def program(name: str) -> Path:
    """Find a program that the lab runs.

    Raises:
        LabError: if it is not there; the message names its Debian package.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES))
    found = shutil.which(name, path=path)
    if found is None:
        raise LabError(f"{name}: not found on {path}; install Debian's {_PACKAGES[name]}")
    return Path(found)


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, stdin: bytes | None = None
) -> bytes:
    """Run a program to its end and return its standard output.

    Args:
        command: a name that ``program`` knows, and the arguments.
        cwd: where it runs; here, when not given.
        stdin: what it reads; nothing, when not given.

    Raises:
        LabError: if the program is missing, fails or takes longer than half an hour.
    """
    name, *arguments = command
    words = [program(str(name)), *arguments]
    shown = " ".join(map(str, command))
    try:
        result = subprocess.run(
            words,
            cwd=cwd,
            input=stdin or b"",
            capture_output=True,
            check=True,
            timeout=_COMMAND_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise LabError(f"{shown}: exit status {error.returncode}: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{shown}: not done after {_COMMAND_SECONDS} s") from error
    return result.stdout


def cache_root() -> Path:
    """Return the lab's cache directory, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(base) / "vmcorefs-lab"
    root.mkdir(parents=True, exist_ok=True)
    return root


@contextmanager
def locked(name: str, *, shared: bool = False) -> Iterator[None]:
    """Hold one of the cache's locks, waiting for whoever has it.

    Args:
        name: of the lock; a lock is not re-entrant, not even within one process.
        shared: with others who say so.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with (cache_root() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.info("waiting for another lab's %s lock", name)
            fcntl.flock(file, how)
        yield


@contextmanager
def guest_of(name: str) -> Iterator[None]:
    """Hold what it takes to run a guest: nobody makes the same, or has the machine to itself.

    A guest that boots keeps one processor busy, so each process of a test run may have one.

    Args:
        name: of what is made of it.
    """
    with locked("guest", shared=True), locked(f"guest-{name}"):
        yield


def open_directory(path: Path) -> int:
    """Open a directory to ``flock`` it: shared by who uses it, exclusive to remove or build it.

    Raises:
        FileNotFoundError: if there is none.
    """
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def remove_unused(path: Path) -> bool:
    """Remove a directory unless some process holds its lock; say whether it is gone."""
    descriptor = open_directory(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(path)
        return True
    finally:
        os.close(descriptor)


@contextmanager
def building(final: Path) -> Iterator[Path]:
    """Give a directory to build in, which becomes ``final`` if the block ends well.

    It lies beside ``final``, so that the rename is atomic. What a killed process left of an
    earlier attempt at the same ``final`` is removed first; callers hold a lock that keeps two
    builders of one ``final`` apart.

    Raises:
        LabError: if ``final`` exists and is not an empty directory.
    """
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise LabError(f"{final}: exists and is not an empty directory; remove it first")
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent, final.name)
    partial, descriptor = _make_partial(final)
    try:
        yield partial
        partial.rename(final)
    finally:
        os.close(descriptor)
        shutil.rmtree(partial, ignore_errors=True)


def _make_partial(final: Path) -> tuple[Path, int]:
    """Make a directory, and hold its lock; whoever sweeps may come between the two."""
    while True:
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=PARTIAL, dir=final.parent))
        with suppress(FileNotFoundError):
            descriptor = open_directory(partial)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if partial.exists():
                return partial, descriptor
            os.close(descriptor)


def sweep(directory: Path, name: str = "*") -> None:
    """Remove half-built directories whose builder is dead.

    Args:
        directory: where they lie.
        name: of what was being built; a pattern as ``Path.glob`` takes it.
    """
    for leftover in directory.glob(f".{name}.*{PARTIAL}"):
        if remove_unused(leftover):
            LOG.info("removed %s, left behind by a process that is gone", leftover)
