"""Giving up what a daemon does not need: checked before it mounts, done once it has mounted."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from types import ModuleType

from vmcorefs.confine import process
from vmcorefs.confine.process import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, NAMES
from vmcorefs.confine.seccomp import load_bindings, load_filter
from vmcorefs.confine.unmounter import Unmounter
from vmcorefs.errors import MountError, UnsupportedError
from vmcorefs.fuse.mounts import DAEMON_NAME

log = logging.getLogger(__name__)

_AROUND_PERMISSIONS = (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)


class Confinement:
    """Determines what a daemon must keep, and gives up the rest.

    Create it before the mount, ``enter`` it after the mount and before there are threads, and
    ``leave`` it when the daemon has ended.
    """

    def __init__(self, mountpoint: str, descriptors: Iterable[int], *, filtered: bool) -> None:
        """Find out what will be needed.

        Args:
            mountpoint: Where the tree will be mounted.
            descriptors: The inputs that may be opened again: regular files.
            filtered: Filter system calls, if libseccomp is installed.
        """
        process.name_process(DAEMON_NAME)
        permitted = process.permitted_capabilities()
        self._mountpoint = mountpoint
        self._kept = [CAP_SYS_ADMIN] if permitted >> CAP_SYS_ADMIN & 1 else []
        if self._kept and not process.works_without(
            _AROUND_PERMISSIONS, lambda: _reach_again(mountpoint, descriptors)
        ):
            self._kept.append(CAP_DAC_READ_SEARCH)
        self._unmounter: Unmounter | None = None
        self._seccomp = _find_seccomp() if filtered else None

    def enter(self) -> None:
        """Give up new privileges, capabilities and system calls.

        Raises:
            MountError: if one of them cannot be given up.
        """
        _end_other_threads()
        try:
            if CAP_SYS_ADMIN not in self._kept:
                self._unmounter = Unmounter(self._mountpoint)
            process.forbid_new_privileges()
            process.keep_capabilities(self._kept)
        except OSError as error:
            raise MountError(
                f"{self._mountpoint}: cannot give up privileges: {error.strerror}"
            ) from error
        count = self._load_filter()
        names = ", ".join(NAMES[capability] for capability in self._kept) or "none"
        calls = f"{count} system calls" if count else "any system call"
        log.info("confined: no new privileges, capabilities: %s, %s", names, calls)

    def _load_filter(self) -> int:
        if self._seccomp is None:
            return 0
        try:
            return load_filter(self._seccomp, privileged=CAP_SYS_ADMIN in self._kept)
        except OSError as error:
            raise MountError(
                f"{self._mountpoint}: cannot give up system calls: {error.strerror};"
                " --no-seccomp mounts without the filter"
            ) from error

    def leave(self) -> None:
        """Have the tree unmounted, if it is still mounted and this process may not do it itself."""
        if self._unmounter is not None:
            self._unmounter.finish()


def _find_seccomp() -> ModuleType | None:
    try:
        return load_bindings()
    except UnsupportedError as error:
        log.info("%s", error)
        return None


def _reach_again(mountpoint: str, descriptors: Iterable[int]) -> None:
    """Do what a daemon does later by name: open the inputs, as EROFS does, and unmount."""
    os.stat(mountpoint)
    for descriptor in descriptors:
        os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC))


def _end_other_threads() -> None:
    """End the threads that OpenBLAS keeps for numpy, as each thread has its own capabilities.

    OpenBLAS ends them before every fork, and starts them again when it needs them (its
    ``blas_thread_shutdown``, by pthread_atfork).
    """
    if len(os.listdir("/proc/self/task")) > 1:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    others = len(os.listdir("/proc/self/task")) - 1
    if others:
        log.info("%d threads keep their capabilities", others)
