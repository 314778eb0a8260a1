"""A process's own privileges: dumps, capabilities, new privileges (prctl(2), capabilities(7))."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2
CAP_SYS_ADMIN: Final = 21
NAMES: Final = {CAP_DAC_READ_SEARCH: "cap_dac_read_search", CAP_SYS_ADMIN: "cap_sys_admin"}
"""Names of the capabilities that may be kept."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_LAST_CAPABILITY: Final = 63

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_dumps() -> None:
    """Protect this process's memory: no core files, no access by its user's other processes.

    A handler that the kernel pipes core files to gets them whatever the limit is; only the
    attribute prevents that (fs/coredump.c, do_coredump; ptrace(2)).
    """
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def name_process(name: str) -> None:
    """Set its name in ps(1): up to 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def end_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when ``parent`` ends, however that comes about.

    What the process gives up later does not change that (kernel/cred.c, ``commit_creds``).
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was too late for that
        os.kill(os.getpid(), signal.SIGTERM)


def forbid_new_privileges() -> None:
    """Let no program that this process starts gain privileges, set-user-ID or not."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def permitted_capabilities() -> int:
    """The capabilities of the calling thread as a bit mask."""
    _, permitted, _ = _capget()
    return permitted


def works_without(capabilities: Iterable[int], attempt: Callable[[], object]) -> bool:
    """Whether ``attempt`` is permitted without these capabilities."""
    effective, permitted, inheritable = _capget()
    aside = sum(1 << capability for capability in capabilities)
    _capset(effective & ~aside, permitted, inheritable)
    try:
        attempt()
    except OSError as error:
        return not isinstance(error, PermissionError)
    finally:
        _capset(effective, permitted, inheritable)
    return True


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up all other capabilities of the calling thread, for good.

    Threads that it starts later inherit the remaining ones; existing threads keep their own.
    """
    _, permitted, _ = _capget()
    mask = sum(1 << capability for capability in kept) & permitted
    # without CAP_SETPCAP the bounding set cannot be reduced, and nothing can be gained from it
    for capability in range(_LAST_CAPABILITY + 1):
        if not mask >> capability & 1:
            _libc.prctl(_PR_CAPBSET_DROP, *map(ctypes.c_ulong, (capability, 0, 0, 0)))
    _libc.prctl(_PR_CAP_AMBIENT, *map(ctypes.c_ulong, (_PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)))
    _capset(mask, mask, 0)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _capget() -> tuple[int, int, int]:
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _checked(_libc.capget(ctypes.byref(header), data))
    low, high = data
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def _capset(*sets: int) -> None:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    low = _Data(*(bits & 0xFFFFFFFF for bits in sets))
    high = _Data(*(bits >> 32 for bits in sets))
    _checked(_libc.capset(ctypes.byref(header), (_Data * 2)(low, high)))


def _prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    value = ctypes.c_ulong(argument) if isinstance(argument, int) else argument
    _checked(_libc.prctl(option, value, *map(ctypes.c_ulong, (0, 0, 0))))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
