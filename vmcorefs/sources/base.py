"""The protocol of an input, and its simplest implementation.

A source has no cursor, so it needs no lock: any number of threads may read at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vmcorefs.errors import SourceIOError


class Source(Protocol):
    """Something that can be read by position."""

    @property
    def name(self) -> str:
        """Its name in messages: a path, as the user gave it."""

    @property
    def origin(self) -> str:
        """Its name in ``layout.json``: an absolute path, as a daemon's directory is ``/``."""

    @property
    def role(self) -> str:
        """What it is to the crashed machine: ``image``, ``backup``, or ``made`` by vmcorefs."""

    @property
    def size(self) -> int:
        """Bytes in it when it was opened."""

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of ``buffer`` with the bytes from ``offset`` on.

        Args:
            offset: First byte wanted, in bytes from the start of the source.
            buffer: Writable, contiguous, format ``B``.

        Raises:
            SourceIOError: if not all bytes can be read; ``buffer`` is then undefined.
        """

    def is_hole(self, offset: int, size: int) -> bool:
        """Whether ``[offset, offset + size)`` is known to be zeros without reading it."""

    def next_data(self, offset: int, end: int) -> int:
        """The first byte of ``[offset, end)`` that is not known to be zeros; ``end`` if none."""

    def close(self) -> None:
        """Release its resources; reading is an error afterwards."""


def check_bounds(source: Source, offset: int, size: int, what: str = "it has") -> None:
    """Refuse a read that is not within a source.

    Args:
        source: What is read.
        offset: First byte wanted, in bytes from its start.
        size: Bytes wanted.
        what: What has these bytes, for the message, if it is not the named file itself.

    Raises:
        SourceIOError: if not all of them are there.
    """
    if offset < 0 or offset + size > source.size:
        raise SourceIOError(source.name, offset, size, f"{what} {source.size} bytes")


def read_at(source: Source) -> Callable[[int, int], bytes]:
    """A function from ``(offset, size)`` to the bytes there: fewer at the end of the source.

    Its errors are those of ``Source.pread_into``.
    """

    def read(offset: int, size: int) -> bytes:
        buffer = bytearray(max(min(size, source.size - offset), 0))
        source.pread_into(offset, memoryview(buffer))
        return bytes(buffer)

    return read


class WithoutHoles:
    """A source that cannot tell zeros without reading them."""

    def is_hole(self, offset: int, size: int) -> bool:
        """See ``Source.is_hole``."""
        return False

    def next_data(self, offset: int, end: int) -> int:
        """See ``Source.next_data``."""
        return offset


class BytesSource(WithoutHoles):
    """Bytes that were made at mount: headers, notes, texts."""

    role = "made"

    def __init__(self, name: str, data: bytes | memoryview) -> None:
        self.name = self.origin = name
        self.size = len(data)
        self._data = data

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        check_bounds(self, offset, len(buffer))
        buffer[:] = self._data[offset : offset + len(buffer)]

    def close(self) -> None:
        """See ``Source.close``."""
