"""Logging to a file, on a disk that may be full."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from typing import Any

from vmcorefs.errors import ConfigError
from vmcorefs.system.files import describe
from vmcorefs.system.terminal import printable

_NULL = os.makedev(1, 3)  # /dev/null (drivers/char/mem.c)


class LineFormatter(logging.Formatter):
    """One line for each message, and the lines of a traceback indented below it.

    What a message quotes of an image or of another user cannot forge another one.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        """See ``logging.Formatter``."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802  # logging's
        """See ``logging.Formatter``."""
        return "\n".join(
            f"    {printable(line)}" for line in super().formatException(ei).split("\n")
        )


def _open(path: str, flags: int) -> int:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o600)
    try:
        status = os.fstat(place)
        is_device = stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode)
        if is_device and status.st_rdev != _NULL and not _is_open(status):
            what = describe(status.st_mode)
            raise ConfigError(f"{path}: a {what}, expected a file for the log")
        return os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)


def _is_open(status: os.stat_result) -> bool:
    """Whether it is a standard stream of this process, such as its terminal."""
    for descriptor in range(3):
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), status):
                return True
    return False


class LogFile(logging.Handler):
    """Appends to a file; lines that cannot be written are counted, and that is logged later.

    A log that cannot be written must not make reads of the mount fail, nor take up memory. It has
    names and addresses of a dead machine: a new file is for its owner alone, whatever the umask.
    """

    def __init__(self, path: str) -> None:
        """Open the file.

        Raises:
            ConfigError: if it cannot be opened, or is a device: to open one may have effects.
        """
        super().__init__()
        # a pipe that nobody reads, now or later, is not waited for
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._descriptor = _open(path, flags)
        except OSError as error:
            raise ConfigError(f"{path}: cannot open the log: {error.strerror}") from error
        self._lost = 0
        self._is_torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, preceded by the number of lines that could not be written, if any."""
        try:
            lines = self.format(record) + "\n"
        except Exception:  # noqa: BLE001  # as logging's own handlers do
            self.handleError(record)
            return
        if self._lost:
            what = f"{self._lost} line{'s' if self._lost != 1 else ''} of this log"
            lines = f"{what} could not be written\n{lines}"
        if self._is_torn:
            lines = "\n" + lines
        text = lines.encode("utf-8", "backslashreplace")
        try:
            done = os.write(self._descriptor, text)
        except OSError:
            done = 0
        self._is_torn = done < len(text) if done else self._is_torn
        self._lost = 0 if done == len(text) else self._lost + 1

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()
