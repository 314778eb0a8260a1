"""Opening what a user names: it is looked at before it is opened.

Opening a pipe waits for its other end, and a device may act on being opened: a watchdog starts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import BinaryIO

from vmcorefs.errors import ConfigError

_MEM, _PORT = 1, 4  # drivers/char/mem.c
_MEMORY_DEVICES = ("crash", "dax", "fmem", "pmem")


def open_checked(path: str, check: Callable[[int, os.stat_result], None]) -> int:
    """Open a file for reading, once ``check`` has looked at it; return the descriptor.

    The name is looked up once, so the file that was checked is the one that is opened, even if the
    name has changed hands in between.

    Args:
        path: The file.
        check: Raises an error if it is not to be opened; called with a descriptor that can do
            nothing (O_PATH), and its status.

    Raises:
        OSError, ValueError: as open(2) does, and of a path with a NUL.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        check(place, os.fstat(place))
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        return os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)


def read_file(path: str, what: str, limit: int) -> bytes:
    """Read a small file that the user names, or a pipe of a shell, as ``<(command)`` is one.

    A pipe that has a name is refused: nobody may ever write to it.

    Args:
        path: The file.
        what: What it should be, for messages: "the memory map".
        limit: Most bytes that the caller accepts.

    Returns:
        All of it, or its first ``limit + 1`` bytes.

    Raises:
        ConfigError: if it cannot be read, or is something else.
    """

    def check(place: int, status: os.stat_result) -> None:
        is_shells = stat.S_ISFIFO(status.st_mode) and not os.readlink(
            f"/proc/self/fd/{place}"
        ).startswith("/")
        if not (stat.S_ISREG(status.st_mode) or is_shells):
            raise ConfigError(f"{path}: a {describe(status.st_mode)}, expected a file with {what}")

    try:
        descriptor = open_checked(path, check)
        os.set_blocking(descriptor, True)  # a pipe is read to its end
        with os.fdopen(descriptor, "rb") as file:
            return file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot read {what}: {reason}") from error


def split_member(path: str) -> tuple[str, str]:
    """Take ``ARCHIVE/MEMBER`` apart: the file that is there, and what follows; else the path."""
    if os.path.lexists(path):
        return path, ""
    above = os.path.dirname(path)
    while above and above != os.path.dirname(above):
        if os.path.isfile(above):
            return above, path[len(above) :].strip("/")
        above = os.path.dirname(above)
    return path, ""


def open_regular(path: str, what: str) -> BinaryIO:
    """Open a file that the user names, and nothing else.

    Raises:
        ConfigError: if there is none, with ``what`` as what was expected.
        OSError: if it cannot be opened.
    """

    def check(_place: int, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: a {describe(status.st_mode)}, expected {what}")

    try:
        return os.fdopen(open_checked(path, check), "rb")
    except (FileNotFoundError, ValueError):
        raise ConfigError(f"{path}: no such file, expected {what}") from None


def describe(mode: int) -> str:
    """What kind of file has a mode, for messages."""
    kinds = (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "directory"),
        (stat.S_ISFIFO, "pipe"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISCHR, "character device"),
        (stat.S_ISBLK, "block device"),
    )
    return next((name for test, name in kinds if test(mode)), f"thing of mode {mode:o}")


def may_hold_memory(path: str, device: int) -> bool:
    """Whether a character device is known to give memory, so that it may be opened and read.

    Args:
        path: Its path, whose last part tells if sysfs is not there.
        device: Its number.
    """
    major, minor = os.major(device), os.minor(device)
    if major == _MEM:
        return minor != _PORT  # reading I/O ports has effects
    node = f"/sys/dev/char/{major}:{minor}"
    name = os.path.basename(os.path.realpath(node) if os.path.exists(node) else path)
    return name.startswith(_MEMORY_DEVICES)
