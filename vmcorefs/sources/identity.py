"""The identity of an input, to check later whether it is still the same file."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """Which file it is, and in which state.

    Attributes:
        device: ``MAJOR:MINOR`` of its file system; for a device, its own.
        inode: Its number there.
        size: In bytes.
        mtime_ns: When it was last written, in nanoseconds since 1970.
        file: The part that writing does not change: ``st_dev`` and ``st_ino`` of stat(2).
        version: Of what is elsewhere, what its server calls its state; else empty.
    """

    device: str
    inode: int
    size: int
    mtime_ns: int
    file: tuple[int, int]
    version: str = ""

    def __str__(self) -> str:
        if self.version:
            return f"{self.size} bytes, version {self.version!r}"
        return (
            f"{self.size} bytes, device {self.device}, inode {self.inode},"
            f" written {format_time(self.mtime_ns)}"
        )


def format_time(time_ns: int) -> str:
    """A time of a file, in nanoseconds since 1970, for people."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (ValueError, OverflowError):  # some file systems store 64 bits, which anybody may set
        return f"at {seconds}.{rest:09d}"


def identify(status: os.stat_result, size: int | None = None) -> Identity:
    """Identify an opened file.

    Args:
        status: The result of fstat(2).
        size: Of a device, whose status does not have it.
    """
    # st_dev of a device node is that of devtmpfs, which says nothing
    device = status.st_rdev or status.st_dev
    return Identity(
        device=f"{os.major(device)}:{os.minor(device)}",
        inode=status.st_ino,
        size=status.st_size if size is None else size,
        mtime_ns=status.st_mtime_ns,
        file=(status.st_dev, status.st_ino),
    )
