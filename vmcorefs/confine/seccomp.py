"""The system call filter, by libseccomp: calls that are not allowed fail, in every thread."""

from __future__ import annotations

import errno
import importlib
import os
import socket
import termios
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

from vmcorefs.confine.syscalls import ALLOWED, PRIVILEGED
from vmcorefs.errors import UnsupportedError

_CLONE_VM, _CLONE_THREAD = 0x100, 0x10000
_PROT_WRITE, _PROT_EXEC = 2, 4
_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA = 15, 16, 0x53564D41
_FIONBIO, _FIOCLEX, _FIONCLEX = 0x5421, 0x5451, 0x5450
_BACKING_OPEN, _BACKING_CLOSE = 0x4010E501, 0x4004E502
_IOCTLS: Final = (termios.TCGETS, _FIONBIO, _FIOCLEX, _FIONCLEX, _BACKING_OPEN, _BACKING_CLOSE)
_BINDINGS: Final = ("seccomp", "pyseccomp")
"""Debian's python3-seccomp, and the same interface on PyPI."""

Rule = tuple[str, tuple[tuple[Any, ...], ...]]


def load_bindings() -> ModuleType:
    """Import the Python module for libseccomp.

    Raises:
        UnsupportedError: if there is none.
    """
    for name in _BINDINGS:
        try:
            return importlib.import_module(name)
        except (ImportError, RuntimeError, OSError):  # pyseccomp without libseccomp
            continue
    raise UnsupportedError(
        "no system call filter: neither python3-seccomp nor pyseccomp with libseccomp is installed"
    )


def load_filter(seccomp: ModuleType, *, privileged: bool) -> int:
    """Restrict all threads of this process to the system calls that a daemon makes.

    Args:
        seccomp: The module from ``load_bindings``.
        privileged: Also allow the calls that CAP_SYS_ADMIN is kept for.

    Returns:
        The number of system calls that are allowed with any arguments.

    Raises:
        OSError: if the kernel refuses the filter.
    """
    try:
        return _load(seccomp, privileged=privileged)
    except RuntimeError as error:  # raised by python3-seccomp for any refusal of libseccomp
        raise OSError(errno.EINVAL, str(error)) from error


def _load(seccomp: ModuleType, *, privileged: bool) -> int:
    made = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    made.set_attr(seccomp.Attr.CTL_TSYNC, 1)
    allowed = [*ALLOWED, *(PRIVILEGED if privileged else ())]
    known = [name for name in allowed if _is_known(seccomp, name)]
    for name in known:
        made.add_rule(seccomp.ALLOW, name)
    for name, conditions in _iter_conditional(seccomp):
        if _is_known(seccomp, name):
            arguments = [seccomp.Arg(*condition) for condition in conditions]
            made.add_rule(seccomp.ALLOW, name, *arguments)
    # the C library then falls back to clone(2), whose flags a filter can see
    made.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    made.load()
    return len(known)


def _iter_conditional(seccomp: ModuleType) -> Iterable[Rule]:
    masked, equal = seccomp.MASKED_EQ, seccomp.EQ
    thread = _CLONE_VM | _CLONE_THREAD
    flags = 1 if os.uname().machine.startswith("s390") else 0
    yield "clone", ((flags, masked, thread, thread),)
    written = _PROT_WRITE | _PROT_EXEC
    for name in ("mmap", "mmap2"):
        for protection in (0, _PROT_WRITE, _PROT_EXEC):  # never both: no code is generated here
            yield name, ((2, masked, written, protection),)
    yield "mprotect", ((2, masked, _PROT_EXEC, 0),)
    for option in (_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA):
        yield "prctl", ((0, equal, option),)
    for request in _IOCTLS:
        yield "ioctl", ((1, equal, request),)
    for name in ("socket", "socketpair"):  # to syslog and systemd, never to a network
        yield name, ((0, equal, int(socket.AF_UNIX)),)
    yield "tgkill", ((0, equal, os.getpid()),)
    yield "prlimit64", ((2, equal, 0),)


def _is_known(seccomp: ModuleType, name: str) -> bool:
    try:
        return int(seccomp.resolve_syscall(seccomp.system_arch(), name)) >= 0
    except (ValueError, OSError):
        return False
