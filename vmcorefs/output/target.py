"""Where a dump goes, and what every such place promises.

A file has its name only when it is whole and safe. Until then it is ``NAME.incomplete``: it is made
exclusively, for its owner alone; ``sync`` makes its bytes safe, and only then ``publish`` gives it
its name. Whatever ends the process in between, the name says that the dump is not complete.

The kernel's log takes the same way, in a file of its own, before the dump.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol

from vmcorefs.errors import DiskFullError, OutputError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

INCOMPLETE = ".incomplete"
"""What the name of an incomplete file ends with."""


class Target(Protocol):
    """One file on its way to a place; it is an ``Output`` for one thread.

    Attributes:
        name: What messages call it: as the user gave it.
        incomplete: The name that the file has until it is complete; None for a pipe.
        sequential: Takes bytes in order only: each ``pwrite`` starts where the last one ended.
        warning: A warning about what an earlier try has left.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # see above
    @property
    def incomplete(self) -> str | None: ...  # noqa: D102
    @property
    def sequential(self) -> bool: ...  # noqa: D102
    @property
    def warning(self) -> str | None: ...  # noqa: D102

    @property
    def room(self) -> int | None:
        """Bytes that may still be written there, beside those ``present``; None if not known."""

    def reserve(self, size: int) -> None:
        """Have room set aside for the first ``size`` bytes, where that can be done.

        Raises:
            DiskFullError: if there is none; nothing is written.
            OutputError: if that fails otherwise.
        """

    @property
    def present(self) -> int:
        """Bytes that an earlier try has left: 0 unless it was opened to resume that."""

    def pread(self, size: int, offset: int) -> bytes:
        """What an earlier try has left there; fewer bytes at the end.

        Raises:
            OutputError: if it cannot be read.
        """

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Put all of ``data`` at ``offset``.

        Raises:
            DiskFullError: if there is no room for it.
            OutputError: if it cannot be written.
        """

    def truncate(self, size: int) -> None:
        """Throw away what is behind ``size`` bytes.

        Raises:
            OutputError: if bytes that have been sent cannot be recalled.
        """

    def sync(self) -> None:
        """Return when every byte is safe from a power cut.

        Raises:
            OutputError: if that fails.
        """

    def publish(self) -> None:
        """Give the file its name, and sync that too; the bytes have been synced before.

        Raises:
            OutputError: if that fails; the file then keeps its incomplete name.
        """

    def sha256(self, check: Callable[[], None]) -> str | None:
        """The SHA-256 of all that was written, in hexadecimal; after ``publish``, or instead.

        None if it was opened with ``hashed`` false.

        Args:
            check: Called now and then if the file has to be read for that; may raise.

        Raises:
            OutputError: if it cannot be read.
        """

    def close(self) -> None:
        """Release what it holds; a file that was not published keeps its incomplete name."""


def output_error(name: str, error: OSError, kept: str | None) -> OutputError:
    """The error of ours for one of the system's.

    Args:
        name: What could not be written.
        error: Why.
        kept: The file that is kept for a later try, if there is one.
    """
    where = f"; {kept} is kept" if kept is not None else ""
    message = f"{name}: cannot write: {error.strerror or error}{where}"
    return DiskFullError(message) if error.errno in _NO_ROOM else OutputError(message)
