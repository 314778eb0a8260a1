"""Every error that vmcorefs raises on purpose.

Each class has two numbers: ``errno``, which a reader of the mount gets, and ``exit_code``, the
command's exit status. A message names the input, what was found, what was expected and where, in
lower case and without a final dot. Any other exception is a bug and ends in a traceback.
"""

from __future__ import annotations

import errno as errno_codes
from typing import ClassVar


class VmcorefsError(Exception):
    """Base of the family; never raised itself."""

    errno: ClassVar[int] = errno_codes.EIO
    exit_code: ClassVar[int] = 1


class ConfigError(VmcorefsError):
    """The command line or the TOML file asks for something impossible."""

    errno = errno_codes.EINVAL
    exit_code = 2


class MountError(VmcorefsError):
    """The tree cannot be mounted or unmounted."""

    exit_code = 3


class FormatError(VmcorefsError):
    """An input is not what it should be: a map, a note, an elfcorehdr, an ELF header."""

    exit_code = 4


class LayoutError(VmcorefsError):
    """Ranges contradict each other: overlapping pieces, a backup of the wrong size."""

    exit_code = 4


class TruncatedError(LayoutError):
    """The image holds less than the memory map says."""


class DigestError(VmcorefsError):
    """An input does not have the expected digest."""

    exit_code = 4


class UnsupportedError(VmcorefsError):
    """Understood, but not possible here."""

    errno = errno_codes.EOPNOTSUPP
    exit_code = 5


class SourceIOError(VmcorefsError):
    """An input could not be read.

    Attributes:
        source: Name of the input, as the user gave it.
        offset: First byte of the failed read, in bytes from the start of the input.
        size: Bytes asked for from ``offset`` on.
        position: The same place in what the input is read as, which tables point into: a dump's
            pages as they are in memory, say, where ``offset`` is that of compressed bytes.
        is_page: Whether one stored page is at fault, and its neighbours may be whole.
        holder: What was read, as one of the sources that a table points into; None if no table
            was read.
    """

    exit_code = 6

    def __init__(
        self,
        source: str,
        offset: int,
        size: int,
        reason: str,
        *,
        position: int | None = None,
        is_page: bool = False,
    ) -> None:
        what = f"{size} byte{'s' if size != 1 else ''}"
        super().__init__(f"{source}: cannot read {what} at offset {offset:#x}: {reason}")
        self.source = source
        self.offset = offset
        self.size = size
        self.position = offset if position is None else position
        self.is_page = is_page
        self.holder: object | None = None


class OutputError(VmcorefsError):
    """The output of ``extract`` or ``save`` cannot be written."""

    exit_code = 6


class DiskFullError(OutputError):
    """There is no room for the output: a dump with fewer pages may fit."""

    errno = errno_codes.ENOSPC


class StoppedError(VmcorefsError):
    """A signal stopped what can be gone on with.

    Attributes:
        is_interrupt: Whether it was SIGINT, by Ctrl-C: the exit status is then 130, as a shell has
            it of a command that SIGINT has ended.
    """

    errno = errno_codes.EINTR
    exit_code = 6

    def __init__(self, message: str, *, is_interrupt: bool = False) -> None:
        super().__init__(message)
        self.is_interrupt = is_interrupt


class IncompleteError(VmcorefsError):
    """A dump is written as far as possible, but lacks bytes that it should hold."""

    exit_code = 6


class FaultError(VmcorefsError):
    """No input holds the bytes asked for, and they are not known to be zeros.

    Attributes:
        name: The file of the tree, or ``memory`` for the physical address space.
        offset: First byte that is not held, in that file's own offsets.
        size: Bytes that are not held from ``offset`` on.
        kind: Why: ``missing``, ``hole``, or ``not in the table``.
    """

    exit_code = 6

    def __init__(self, name: str, offset: int, size: int, kind: str) -> None:
        what = f"{size} byte{'s' if size != 1 else ''}"
        super().__init__(
            f"{name}: no input holds [{offset:#x}, {offset + size:#x}) ({kind}, {what})"
        )
        self.name = name
        self.offset = offset
        self.size = size
        self.kind = kind


class UnreadableError(FaultError):
    """An input holds the bytes asked for, but cannot be read: as good as absent.

    Attributes:
        reason: Why, with the input and the offset in it.
    """

    def __init__(self, source: str, offset: int, size: int, reason: str) -> None:
        super().__init__(source, offset, size, "unreadable")
        self.args = (reason,)
        self.reason = reason
