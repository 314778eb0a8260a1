"""The small part of the FUSE protocol that is used here (include/uapi/linux/fuse.h).

libfuse handles the rest. Numbers are in the machine's own byte order, like the kernel's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

OPEN, READ, INIT, READDIR, INTERRUPT, READDIRPLUS, LSEEK = 14, 15, 26, 28, 36, 44, 46

UNANSWERED = frozenset({2, 36, 42})
"""FORGET, INTERRUPT and BATCH_FORGET."""

IN_HEADER = struct.Struct("=IIQQ")
"""``fuse_in_header``: length, opcode, unique, node; user and process follow, up to byte 40."""
BODY = 40
"""Where a request's own arguments start."""
READ_IN = struct.Struct("=QQII")
"""``fuse_read_in``: file handle, offset, size, flags; ``size`` is at ``SIZE_AT``."""
READ_LOCKOWNER = 1 << 1
"""A flag of READ that direct I/O sets and the page cache does not (fs/fuse/file.c)."""
SIZE_AT = BODY + 16
OUT_HEADER = struct.Struct("=IiQ")
"""``fuse_out_header``: length, negative errno, unique."""
LSEEK_IN = struct.Struct("=QQI")
"""``fuse_lseek_in``: file handle, offset, whence."""
LSEEK_OUT = struct.Struct("=IiQQ")
"""An answer to LSEEK: the header, and the offset found."""

_OPEN_FLAGS = struct.Struct("=Ii")
_OPEN_FLAGS_AT = OUT_HEADER.size + 8
_FOPEN_DIRECT_IO, _FOPEN_NOFLUSH, _FOPEN_PASSTHROUGH = 1 << 0, 1 << 5, 1 << 7

_INIT_FLAGS_AT = BODY + 12
_INIT_IN_FLAGS = struct.Struct("=II")
_INIT_OUT = struct.Struct("=IIIIHHIIHHIIH")
"""``fuse_init_out`` up to ``request_timeout`` (protocol 7.43)."""
_INIT_EXT = 1 << 30
_DIRECT_IO_ALLOW_MMAP = 1 << 4
_PASSTHROUGH = 1 << 5
_REQUEST_TIMEOUT = 1 << 10
"""Flags 36, 37 and 42 of INIT: bits of its second word."""
_STACK_DEPTH = 2
"""The largest value that the kernel allows, so that an image may be on overlayfs."""
MAX_WRITE = 4096
"""Nothing is ever written, but the buffer of a request must hold the longest write."""
REQUEST_SIZE = 16384
_MAX_BACKGROUND = 64
"""Read-aheads in flight at once (12 by default): those that hang must leave room for others."""
LONGEST_TIMEOUT = 0xFFFF

_BACKING_OPEN = 0x4010E501
_NOTIFY_INVAL_ENTRY = 3
_INVAL_ENTRY = struct.Struct("=QII")


def unique_of(message: memoryview) -> int:
    """The kernel's number of a request, which is at the same place in the answer to it."""
    unique: int
    _, _, unique = OUT_HEADER.unpack_from(message)
    return unique


def accept_init(request: memoryview, reply: bytearray, size: int, timeout: int) -> bool:
    """Add to libfuse's answer to INIT what libfuse cannot ask for.

    Args:
        request: The kernel's INIT.
        reply: libfuse's answer, of ``size`` bytes; changed in place.
        size: Its length.
        timeout: Seconds after which the kernel gives up a daemon that does not answer, if it can
            (Linux 6.15); 0 for never.

    Returns:
        Whether files can be passed through.
    """
    if size < OUT_HEADER.size + _INIT_OUT.size:
        return False
    flags, flags2 = _INIT_IN_FLAGS.unpack_from(request, _INIT_FLAGS_AT)
    if not flags & _INIT_EXT or len(request) < _INIT_FLAGS_AT + 8:
        flags2 = 0
    major, minor, ahead, want, _, _, _, gran, pages, align, want2, depth, _ = _INIT_OUT.unpack_from(
        reply, OUT_HEADER.size
    )
    passed = bool(flags2 & _PASSTHROUGH)
    more = flags2 & (_DIRECT_IO_ALLOW_MMAP | _PASSTHROUGH | (_REQUEST_TIMEOUT if timeout else 0))
    _INIT_OUT.pack_into(
        reply,
        OUT_HEADER.size,
        *(major, minor, ahead, want | (_INIT_EXT if more else 0)),
        *(_MAX_BACKGROUND, _MAX_BACKGROUND * 3 // 4, MAX_WRITE),
        *(gran, pages, align, want2 | more, _STACK_DEPTH if passed else depth),
        timeout if more & _REQUEST_TIMEOUT else 0,
    )
    return passed


def pass_through(reply: bytearray, backing: int) -> None:
    """Turn a successful answer to OPEN into one that passes the file's reads to ``backing``.

    An answer with direct I/O is left unchanged.
    """
    flags, _ = _OPEN_FLAGS.unpack_from(reply, _OPEN_FLAGS_AT)
    if flags & _FOPEN_DIRECT_IO:
        return
    # no other flag may be set with it (fs/fuse/iomode.c, FOPEN_PASSTHROUGH_MASK)
    _OPEN_FLAGS.pack_into(reply, _OPEN_FLAGS_AT, _FOPEN_PASSTHROUGH | _FOPEN_NOFLUSH, backing)


def open_backing(device: int, descriptor: int) -> int:
    """Register an opened file that reads can be passed to.

    Args:
        device: /dev/fuse, as it is mounted.
        descriptor: The file.

    Returns:
        Its number, for ``pass_through``.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN; others if it is not a suitable file.
    """
    request = bytearray(struct.pack("=iIQ", descriptor, 0, 0))
    number: int = fcntl.ioctl(device, _BACKING_OPEN, request)
    if number <= 0:
        raise OSError(errno.EINVAL, "the kernel gave no number for the file")
    return number


def forget_name(parent: int, name: str) -> bytes:
    """A notification that makes the kernel look a name up again (``fuse_notify_inval_entry_out``).

    Args:
        parent: The directory's node.
        name: In it.
    """
    text = os.fsencode(name)
    body = _INVAL_ENTRY.pack(parent, len(text), 0) + text + b"\0"
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), _NOTIFY_INVAL_ENTRY, 0) + body
