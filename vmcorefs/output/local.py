"""A dump as a file of this machine."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress

from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.output.room import find_room, reserve
from vmcorefs.output.stream import RunningHash
from vmcorefs.output.target import INCOMPLETE, output_error
from vmcorefs.sources.evidence import NOTHING, Evidence

_CHUNK = 256 << 10
"""Bytes that are read together for the sum; more would be memory, and no faster."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


class LocalTarget:
    """A file on a file system of this machine; see ``Target``.

    It is locked (flock(2)) while it is written: a second saver is refused, and so is resuming what
    is still being written.
    """

    sequential = False
    warning: str | None = None

    def __init__(
        self,
        path: str,
        *,
        force: bool,
        resume: bool = False,
        compared: bool = False,
        hashed: bool = True,
        evidence: Evidence = NOTHING,
    ) -> None:
        """Make ``path.incomplete``, or open the one that an earlier try has left.

        Args:
            path: The name that the file will have; its directory must exist.
            force: Replace ``path``, and start over in ``path.incomplete``.
            resume: Keep what ``path.incomplete`` holds.
            compared: The caller compares everything that it holds, and need not trust it.
            hashed: Its sum will be asked for.
            evidence: What neither may be.

        Raises:
            ConfigError: if either is an input, ``path`` exists, or another process writes it, or an
                earlier try has left its file and neither ``force`` nor ``resume`` is given.
            OutputError: if it cannot be made.
        """
        if not os.path.basename(path):
            raise ConfigError(f"{path!r}: expected the name of a file")
        self.name = path
        self.incomplete = f"{path}{INCOMPLETE}"
        self._force = force
        self._published = False
        self._hash = RunningHash(wanted=hashed)
        for name in (self.name, self.incomplete):
            evidence.refuse(name)
        self._refuse_existing()
        try:
            self._fd, self._is_new = self._open()
        except OSError as error:
            raise output_error(path, error, None) from error
        try:
            self._lock()
            if not self._is_new:
                self._take_over(force=force, resume=resume, compared=compared)
            self._refuse_existing()  # the saver that had the lock may have finished meanwhile
            self.present = self._end = os.fstat(self._fd).st_size
        except OSError as error:
            self.close()
            raise output_error(path, error, None) from error
        except BaseException:
            self.close()
            raise

    def _refuse_existing(self) -> None:
        try:
            mode = os.lstat(self.name).st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise output_error(self.name, error, None) from error
        if not self._force:
            raise ConfigError(f"{self.name}: exists already; pass --force to replace it")
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise ConfigError(
                f"{self.name}: exists and is not a regular file, so it is not replaced"
            )

    def _open(self) -> tuple[int, bool]:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(self.incomplete, flags | os.O_CREAT | os.O_EXCL, 0o600), True
        except FileExistsError:
            return os.open(self.incomplete, flags), False

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._is_new = False  # it is the other one's
            raise ConfigError(f"{self.incomplete}: another process is writing it") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        # the lock may be on a file that has got its name, and perhaps a successor, since the open
        try:
            same = os.path.samestat(os.lstat(self.incomplete), os.fstat(self._fd))
        except FileNotFoundError:
            same = False
        if not same:
            self._is_new = False
            raise ConfigError(f"{self.incomplete}: another process has just written it")

    def _take_over(self, *, force: bool, resume: bool, compared: bool) -> None:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise ConfigError(
                f"{self.incomplete}: exists and is not a file that an earlier try left"
            )
        if status.st_uid != os.geteuid():
            raise ConfigError(f"{self.incomplete}: belongs to user {status.st_uid}")
        if status.st_size and not (force or resume):
            raise ConfigError(
                f"{self.incomplete}: an earlier try has left it; pass --resume to continue it,"
                " or --force to start over"
            )
        os.fchmod(self._fd, 0o600)
        if not resume or (not compared and self._is_from_before(status.st_mtime)):
            os.ftruncate(self._fd, 0)

    def _is_from_before(self, mtime: float) -> bool:
        """Whether this machine has been rebooted since the file was written.

        Then pages may be lost that were on their way to the disk, while what says that they are
        there was kept. Nothing in the file is trusted.
        """
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        if mtime >= boot:
            return False
        self.warning = (
            f"{self.incomplete}: this machine has been rebooted since it was written, so what it"
            " holds cannot be trusted; starting over"
        )
        return True

    @property
    def room(self) -> int | None:
        """See ``Target.room``."""
        return find_room(self._fd)

    def reserve(self, size: int) -> None:
        """See ``Target.reserve``."""
        try:
            reserve(self._fd, size)
        except OSError as error:
            raise output_error(self.name, error, None) from error

    def pread(self, size: int, offset: int) -> bytes:
        """See ``Target.pread``."""
        pieces = []
        try:
            while size > 0 and (piece := os.pread(self._fd, size, offset)):
                pieces.append(piece)
                size, offset = size - len(piece), offset + len(piece)
        except OSError as error:
            raise OutputError(f"{self.incomplete}: cannot read: {error.strerror}") from error
        return b"".join(pieces)

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """See ``Target.pwrite``.

        A format begins with what says whether the rest is there, and writes it again when it is:
        the rest is synced before, for the disk may keep any order between two syncs.
        """
        view = memoryview(data).cast("B")
        self._hash.add(view, offset)
        if offset == 0 and self._end > 0:
            self.sync()
        self._end = max(self._end, offset + len(view))
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)
        except OSError as error:
            raise output_error(self.name, error, self.incomplete) from error

    def foresee(self, head: bytes) -> None:
        """What the file will begin with; all else is written in order, with holes between.

        Its sum then takes no second read, if that becomes true. It is not foreseen of a file that
        an earlier try has left: what is in its holes is not known.
        """
        if self._end == 0:
            self._hash.foresee(head)

    def truncate(self, size: int) -> None:
        """See ``Target.truncate``."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise output_error(self.name, error, self.incomplete) from error
        self.present = min(self.present, size)
        self._end = min(self._end, size)
        if size == 0:
            self._hash = RunningHash(wanted=self._hash.wanted)

    def sync(self) -> None:
        """See ``Target.sync``."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise output_error(self.name, error, self.incomplete) from error

    def publish(self) -> None:
        """See ``Target.publish``."""
        try:
            if self._force:
                os.rename(self.incomplete, self.name)
            else:
                _rename_to_new(self.incomplete, self.name)
            self._published = True
            sync_directory(self.name)
        except FileExistsError:
            raise OutputError(
                f"{self.name}: another process has made it meanwhile; {self.incomplete} is complete"
            ) from None
        except OSError as error:
            kept = None if self._published else self.incomplete
            raise output_error(self.name, error, kept) from error

    def sha256(self, check: Callable[[], None]) -> str | None:
        """See ``Target.sha256``."""
        if not self._hash.wanted:
            return None
        known = self._hash.hexdigest()
        if known is not None and self._hash.position == os.fstat(self._fd).st_size:
            return known
        digest, offset = hashlib.sha256(), 0
        while data := self.pread(_CHUNK, offset):
            check()
            digest.update(data)
            offset += len(data)
        return digest.hexdigest()

    def close(self) -> None:
        """See ``Target.close``; a file that was made here, and is still empty, goes away."""
        if self._fd < 0:
            return
        with suppress(OSError):
            if self._is_new and not self._published and os.fstat(self._fd).st_size == 0:
                os.unlink(self.incomplete)
        os.close(self._fd)
        self._fd = -1


def _rename_to_new(old: str, new: str) -> None:
    """rename(2) that does not replace, where kernel, C library and file system can do that."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        renameat2 = None
    if renameat2 is not None:
        paths = os.fsencode(old), os.fsencode(new)
        if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new)


def sync_directory(path: str) -> None:
    """Make the name ``path`` itself durable, in the directory that it stands in.

    Raises:
        OSError: if that cannot be had.
    """
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # fsync(2): some file systems have nothing to sync there
            raise
    finally:
        os.close(directory)
