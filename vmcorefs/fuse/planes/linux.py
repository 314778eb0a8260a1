"""System calls that Python lacks: fixed mappings, mounts without a mount point, unmounting."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Iterable
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64),
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long

PROT_NONE, PROT_READ = 0, 1
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x1, 0x2, 0x10, 0x20, 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value
_MADV_DONTNEED, _MADV_DONTDUMP, _MADV_POPULATE_READ = 4, 16, 22

_BDIS = "/sys/class/bdi"

_IN_MODIFY, _IN_ATTRIB, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x2, 0x4, 0x400, 0x800
_IN_CHANGES = _IN_MODIFY | _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF

# the same on every architecture but alpha (include/uapi/asm-generic/unistd.h)
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_MNT_DETACH = 2


def map_memory(
    address: int, size: int, protection: int, flags: int, descriptor: int = -1, offset: int = 0
) -> int:
    """mmap(2).

    Returns:
        The address.

    Raises:
        OSError: if the kernel refuses.
    """
    found = _libc.mmap(address or None, size, protection, flags, descriptor, offset)
    if found is None or found == _MAP_FAILED:
        raise _last_error()
    return int(found)


def unmap_memory(address: int, size: int) -> None:
    """munmap(2)."""
    if _libc.munmap(address, size):
        raise _last_error()


def forget_pages(address: int, size: int) -> None:
    """Drop mapped pages from the process; the page cache keeps them (MADV_DONTNEED)."""
    _libc.madvise(address, size, _MADV_DONTNEED)


def populate_pages(address: int, size: int) -> None:
    """Bring mapped pages into memory, as reading them would, but without a signal for a lost one.

    Args:
        address: A multiple of the page.
        size: In bytes.

    Raises:
        OSError: EFAULT for a page that cannot be read; EINVAL before Linux 5.14.
    """
    if _libc.madvise(address, size, _MADV_POPULATE_READ):
        raise _last_error()


@functools.cache
def can_populate() -> bool:
    """Whether this kernel knows ``populate_pages``."""
    size = os.sysconf("SC_PAGE_SIZE")
    address = map_memory(0, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS)
    try:
        populate_pages(address, size)
    except OSError as error:
        return error.errno != errno.EINVAL
    finally:
        unmap_memory(address, size)
    return True


def leave_out_of_dumps(address: int, size: int) -> None:
    """Keep mapped pages out of core files, whatever /proc/PID/coredump_filter says."""
    _libc.madvise(address, size, _MADV_DONTDUMP)


def has_cpus() -> bool:
    """Whether this process may run on more than one CPU."""
    return len(os.sched_getaffinity(0)) > 1


def bdi_names() -> set[str]:
    """The devices and file systems that have their own read-ahead setting."""
    try:
        return set(os.listdir(_BDIS))
    except OSError:
        return set()


def read_further_ahead(bdi: str) -> None:
    """Read 512 KiB ahead (128 by default), if this process may set that, which only root may.

    With more, random reads of a mapping lose more than sequential ones gain.
    """
    with suppress(OSError), open(f"{_BDIS}/{bdi}/read_ahead_kb", "w", encoding="ascii") as setting:
        setting.write("512")


def open_inotify() -> int:
    """A descriptor that becomes readable when a watched file changes (inotify(7)).

    Raises:
        OSError: if there are too many already.
    """
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def watch_file(inotify: int, path: str) -> int:
    """Watch a file for changes of its bytes, its size and its names; return the watch's number.

    Raises:
        OSError: if it cannot be watched.
    """
    return _checked(_libc.inotify_add_watch(inotify, os.fsencode(path), _IN_CHANGES))


def mount_detached(fs_type: str, options: Iterable[tuple[str, str]]) -> int:
    """Mount a file system without a mount point: it lives as long as something in it is open.

    Args:
        fs_type: Its name, as in /proc/filesystems.
        options: Its options, ``source`` among them, in their order.

    Returns:
        A descriptor of its root, for ``dir_fd``.

    Raises:
        OSError: if it cannot be mounted: not root, no such file system, or its own refusal.
    """
    context = _syscall(_FSOPEN, fs_type.encode(), _CLOEXEC)
    try:
        for name, value in options:
            _syscall(_FSCONFIG, context, _FSCONFIG_SET_STRING, name.encode(), os.fsencode(value), 0)
        _syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def detach_mount(mountpoint: str) -> None:
    """Unmount what is mounted there, whether or not files of it are open.

    Raises:
        OSError: if it cannot be unmounted: not root, or nothing is mounted there.
    """
    _checked(_libc.umount2(os.fsencode(mountpoint), _MNT_DETACH))


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def _checked(result: int) -> int:
    if result < 0:
        raise _last_error()
    return int(result)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
