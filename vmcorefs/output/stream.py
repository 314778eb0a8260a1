"""Places that take bytes in order alone, and the nearest of them: a pipe."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable

from vmcorefs.errors import OutputError
from vmcorefs.output.room import find_room
from vmcorefs.output.target import output_error

_ZEROS = bytes(1 << 16)


class RunningHash:
    """The SHA-256 of what is written in order; given up at the first write out of order.

    A file that begins with what is only known to be true in the end may foresee that.

    Attributes:
        wanted: Whether it will be asked for.
        position: Bytes that were written in order.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self.position = 0
        self._hash = hashlib.sha256()
        self._whole = True
        self._head: bytes | None = None
        self._has_head = False

    def foresee(self, head: bytes) -> None:
        """All but ``head`` will be written in order, with zeros between: it will be there at 0."""
        self.add(memoryview(head), 0)
        self._head = head

    def add(self, data: memoryview, offset: int) -> None:
        """``data`` is about to be written at ``offset``."""
        if self._head is not None and offset == 0:
            self._has_head = data == self._head
            return
        if self._head is not None and offset > self.position:
            self._fill(offset - self.position)
        if self._whole and offset == self.position:
            if self.wanted:
                self._hash.update(data)
            self.position += len(data)
        else:
            self._whole = False

    def _fill(self, size: int) -> None:
        for done in range(0, size if self.wanted else 0, len(_ZEROS)):
            self._hash.update(_ZEROS[: size - done])
        self.position += size

    def hexdigest(self) -> str | None:
        """The checksum; None if not all was written as it was to be, or it is not wanted."""
        known = self._whole and (self._head is None or self._has_head)
        return self._hash.hexdigest() if known and self.wanted else None


class SequentialTarget(ABC):
    """What such places have in common; see ``Target``."""

    sequential = True
    present = 0
    warning: str | None = None
    room: int | None = None

    def __init__(self, name: str, *, hashed: bool = True) -> None:
        self.name = name
        self._hash = RunningHash(wanted=hashed)
        self._failure: OutputError | None = None

    @abstractmethod
    def _send(self, data: memoryview) -> None:
        """Send all of ``data``.

        Raises:
            OutputError: if that fails.
        """

    def reserve(self, size: int) -> None:  # noqa: B027  # nothing can be set aside
        """See ``Target.reserve``."""

    @property
    def sent(self) -> int:
        """Bytes that have been sent."""
        return self._hash.position

    def pread(self, size: int, offset: int) -> bytes:
        """See ``Target.pread``: nothing is read back."""
        return b""

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """See ``Target.pwrite``; once it has failed it does so for good.

        Raises:
            OutputError: if it cannot be written.
            ValueError: if ``offset`` is not where the last one ended.
        """
        if self._failure is not None:
            raise self._failure
        if offset != self.sent:
            raise ValueError(f"offset {offset}, but {self.sent} bytes have been sent")
        view = memoryview(data).cast("B")
        self._hash.add(view, offset)
        try:
            self._send(view)
        except OutputError as error:
            self._failure = error  # how much has gone is not known
            raise

    def truncate(self, size: int) -> None:
        """See ``Target.truncate``."""
        if size < self.sent:
            raise OutputError(
                f"{self.name}: {self.sent} bytes have been sent, and cannot be recalled"
            )

    def sha256(self, check: Callable[[], None]) -> str | None:
        """See ``Target.sha256``: of what has been sent."""
        return self._hash.hexdigest()


class StreamTarget(SequentialTarget):
    """An open descriptor, such as a pipe that another program reads; see ``Target``.

    Only the format's own end mark shows the reader whether everything has arrived.
    """

    incomplete = None

    def __init__(self, name: str, descriptor: int, *, hashed: bool = True) -> None:
        super().__init__(name, hashed=hashed)
        self._fd = descriptor
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # the shell's >
            self.room = find_room(descriptor)

    def _send(self, data: memoryview) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError as error:
            raise output_error(self.name, error, None) from error

    def sync(self) -> None:
        """See ``Target.sync``: a pipe has nothing to sync, a file behind the descriptor has."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):  # fsync(2): cannot be synced
                raise output_error(self.name, error, None) from error

    def publish(self) -> None:
        """See ``Target.publish``: it has no other name."""

    def close(self) -> None:
        """See ``Target.close``: the descriptor is not ours."""
