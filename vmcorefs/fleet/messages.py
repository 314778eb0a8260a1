"""What a worker and its fork server say to each other: messages, each behind its length."""

from __future__ import annotations

from io import BufferedIOBase
from typing import Final

import msgspec

_LENGTH: Final = 8


class Request(msgspec.Struct, frozen=True):
    """A dump to open.

    Attributes:
        places: The paths or URLs of its files, as the file system has them.
        seconds: That it may take.
        memory: Bytes of address space that it may take.
    """

    places: tuple[bytes, ...]
    seconds: float
    memory: int


class Said(msgspec.Struct, frozen=True):
    """What the process of a dump says.

    Attributes:
        answer: An ``Answer``, in JSON.
        made: What other dumps of the kernel need not make again (``core.made_before``).
    """

    answer: bytes
    made: dict[bytes, bytes] = {}


def send(file: BufferedIOBase, message: bytes) -> None:
    """Write a message.

    Raises:
        OSError: if nobody reads it.
    """
    file.write(len(message).to_bytes(_LENGTH, "little") + message)
    file.flush()


def receive(file: BufferedIOBase) -> bytes | None:
    """Read a message; None if there is no whole one any more."""
    head = file.read(_LENGTH)
    size = int.from_bytes(head, "little")
    message = file.read(size) if len(head) == _LENGTH else b""
    return message if len(head) == _LENGTH and len(message) == size else None
