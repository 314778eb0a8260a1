"""Files and devices: the only place where an input's bytes are read.

Reads are ``preadv`` into the caller's buffer: no further copy, no cursor, and an input that
shrinks or fails gives an error here, not a SIGBUS as in a mapping.
"""

from __future__ import annotations

import errno
import os
import stat
import threading

from vmcorefs.core.digests import Digest
from vmcorefs.errors import ConfigError, SourceIOError
from vmcorefs.sources.identity import Identity, identify
from vmcorefs.system.files import describe, may_hold_memory, open_checked

_KCORE = "/proc/kcore"


class FileSource:
    """An opened regular file, block device or character device.

    Attributes:
        name: The path, as the user gave it.
        origin: The same, absolute.
        role: ``image`` or ``backup``.
        size: Bytes in it when it was opened; for a character device, which has no size,
            ``size_if_unknown``.
        kind: ``file``, ``proc file`` (/proc/vmcore: it reports no holes, and mapping it fills the
            page tables of the whole mapping at once), ``block device``, ``character device`` or
            ``process memory``.
        identity: Which file it was when it was opened.
        digest: The digest of its bytes, once it has been verified.
        wrappers: What its memory is wrapped in, from the outside inwards.
        format: In what format that is, for people; "raw memory" if it has none.
        is_live: Whether a machine that runs keeps its memory there, which changes meanwhile.
    """

    is_live = False

    def __init__(self, path: str, *, role: str, size_if_unknown: int | None = None) -> None:
        """Open ``path`` for reading.

        Args:
            path: A regular file, block device or character device.
            role: What it is to the crashed machine.
            size_if_unknown: Size in bytes to assume for a character device.

        Raises:
            ConfigError: if it cannot be opened or is something else, such as a pipe or a directory.
        """
        self.name = path
        self.origin = os.path.abspath(path)
        self.role = role
        self.digest: Digest | None = None
        self.wrappers: tuple[str, ...] = ()
        self.format = "raw memory"
        try:
            self._fd = self._open(path, may_be_character_device=size_if_unknown is not None)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{path}: cannot open the {role}: {reason}") from error
        try:
            self.kind, self.size = self._examine(size_if_unknown)
            self.identity = self.identity_now
            # an open one has one buffer and no lock (fs/proc/kcore.c, open_kcore); other files get
            # no lock here: if one read hangs, the others must go on
            self._turn = threading.Lock() if _is_same(self._fd, _KCORE) else None
        except BaseException:
            os.close(self._fd)
            raise

    def _open(self, path: str, *, may_be_character_device: bool) -> int:
        def check(_place: int, status: os.stat_result) -> None:
            self._refuse(status, may_be_character_device=may_be_character_device)

        return open_checked(path, check)

    def _refuse(self, status: os.stat_result, *, may_be_character_device: bool) -> None:
        mode = status.st_mode
        if stat.S_ISCHR(mode) and not may_hold_memory(self.name, status.st_rdev):
            raise ConfigError(
                f"{self.name}: a character device that is not known to hold memory, expected a file"
                " or a device such as /dev/mem"
            )
        if stat.S_ISCHR(mode) and not may_be_character_device:
            raise ConfigError(
                f"{self.name}: a character device has no size of its own; give one, as in"
                f" {self.name}@0:0+4G"
            )
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
            raise ConfigError(f"{self.name}: a {describe(mode)}, expected a file or a device")

    def _examine(self, size_if_unknown: int | None) -> tuple[str, int]:
        status = os.fstat(self._fd)
        if stat.S_ISREG(status.st_mode):
            return "proc file" if _is_on_proc(status) else "file", status.st_size
        if stat.S_ISBLK(status.st_mode):
            return "block device", os.lseek(self._fd, 0, os.SEEK_END)
        return "character device", size_if_unknown or 0

    @property
    def file(self) -> FileSource:
        """This file itself; a wrapper returns the file that it wraps."""
        return self

    @property
    def mtime(self) -> float:
        """When it was last written, in seconds since 1970."""
        return self.identity.mtime_ns / 1e9

    @property
    def identity_now(self) -> Identity:
        """Its identity and state now."""
        is_device = self.kind.endswith("device")
        return identify(os.fstat(self._fd), self.size if is_device else None)

    @property
    def takes_turns(self) -> bool:
        """Whether only one thread may read it at a time, so that nobody may by its descriptor."""
        return self._turn is not None

    def fileno(self) -> int:
        """Its descriptor, for the kernel (mapping, passthrough) and for ``native.pages``."""
        return self._fd

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        done = 0
        while done < len(buffer):
            try:
                count = self._preadv(buffer[done:], offset + done)
            except OSError as error:
                reason = error.strerror or str(error)
                raise SourceIOError(self.name, offset + done, len(buffer) - done, reason) from error
            if count == 0:
                reason = f"it ends there now, but had {self.size} bytes when it was opened"
                raise SourceIOError(self.name, offset + done, len(buffer) - done, reason)
            done += count

    def _preadv(self, buffer: memoryview, offset: int) -> int:
        if self._turn is None:
            return os.preadv(self._fd, [buffer], offset)
        with self._turn:
            return os.preadv(self._fd, [buffer], offset)

    def pread_cached(self, offset: int, buffer: memoryview) -> bool:
        """Fill ``buffer`` if that needs no wait for a disk; return whether it did.

        It does not distinguish data missing from the page cache, a file system that cannot tell,
        and errors: ``pread_into`` then finds out which it is.
        """
        if self._turn is not None:
            return False
        try:
            return os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT) == len(buffer)
        except OSError:
            return False

    def is_hole(self, offset: int, size: int) -> bool:
        """See ``Source.is_hole``; the file system knows (lseek(2), SEEK_DATA)."""
        if self.kind != "file":
            return False
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA) >= offset + size
        except OSError as error:
            # no data up to the end of the file, which must still be where it was
            end = os.fstat(self._fd).st_size
            return error.errno == errno.ENXIO and offset + size <= end

    def next_data(self, offset: int, end: int) -> int:
        """See ``Source.next_data``.

        What the file has lost since it was opened counts as data, so that readers get an error.
        """
        if self.kind != "file":
            return offset
        try:
            return min(os.lseek(self._fd, offset, os.SEEK_DATA), end)
        except OSError as error:
            holds = error.errno == errno.ENXIO and end <= os.fstat(self._fd).st_size
            return end if holds else offset

    def next_hole(self, offset: int, end: int) -> int:
        """The first byte of ``[offset, end)`` that is known to be zeros; ``end`` if none."""
        if self.kind != "file" or end > os.fstat(self._fd).st_size:
            return end
        try:
            return min(os.lseek(self._fd, offset, os.SEEK_HOLE), end)
        except OSError:
            return end

    def close(self) -> None:
        """See ``Source.close``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _is_on_proc(status: os.stat_result) -> bool:
    try:
        return status.st_dev == os.stat("/proc").st_dev
    except OSError:
        return False


def _is_same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
