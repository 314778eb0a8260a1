"""What this process and the one that fetches say to each other, over a stream socket.

A request is an offset, a size and the seconds that it may take; an answer is how it went and some
bytes. The first answer on the first connection describes the object.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

import msgspec

REQUEST: Final = struct.Struct("<QQd")
ANSWER: Final = struct.Struct("<BQ")

OK, FAILED, CHANGED, UNSUPPORTED = range(4)
"""How a request went; a text follows all but ``OK``."""

MOST: Final = 8 << 20
"""Bytes in one answer."""


class Described(msgspec.Struct, frozen=True):
    """An object as it is when it is opened.

    Attributes:
        size: In bytes.
        version: What changes with its bytes, such as an ETag.
        mtime: When it was last written, in seconds since 1970; 0 if nothing says.
    """

    size: int
    version: str
    mtime: float = 0.0


class ChangedError(Exception):
    """The object is no longer the one that was opened."""


def send_answer(connection: socket.socket, how: int, data: bytes) -> None:
    """Send an answer."""
    connection.sendall(ANSWER.pack(how, len(data)))
    connection.sendall(data)


def receive(connection: socket.socket, size: int) -> bytes:
    """Receive some bytes.

    Raises:
        EOFError: if the other side has gone.
    """
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError("the process that fetches it has ended")
        view = view[count:]
    return bytes(data)
