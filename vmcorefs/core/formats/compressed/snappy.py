"""Where the chunks of a snappy framed stream are (snappy's framing_format.txt).

A chunk has a type of one byte, a length of three, and then that many bytes, of which the first four
are a checksum. What it decompresses to, 64 KiB at most, does not depend on the chunks before it.
"""

from __future__ import annotations

from array import array
from typing import Final

from vmcorefs.core.formats.window import Window
from vmcorefs.errors import FormatError

STREAM_START: Final = b"\xff\x06\0\0sNaPpY"
CHUNK: Final = 64 << 10
"""Most bytes that a chunk decompresses to."""

MAX_CHUNKS: Final = 1 << 24
"""Most chunks accepted: those of 1 TiB."""

_COMPRESSED, _PLAIN = 0x00, 0x01
_FIRST_SKIPPED = 0x80
_LONGEST_HEADER = 13
"""Bytes up to the end of the decompressed size: type, length, checksum, a number of five bytes."""


class Chunks:
    """The chunks with data that were found so far.

    Attributes:
        at: Where each begins in the file, in bytes.
        length: Bytes in it, its header included.
        size: Bytes that it decompresses to.
    """

    def __init__(self) -> None:
        self.at, self.length, self.size = array("q"), array("q"), array("q")

    @property
    def columns(self) -> tuple[array[int], array[int], array[int]]:
        """Where each is, and its length and size, of one length."""
        return self.at, self.length, self.size

    def follow(self, window: Window, offset: int, size: int) -> int:
        """Find the chunks of a stream that decompresses to ``size`` bytes.

        Args:
            window: Reads the file.
            offset: Where the stream begins in it.
            size: Bytes of data in the stream.

        Returns:
            One past the stream's last byte; where the first chunk begins that is not whole, if the
            file ends before that.

        Raises:
            FormatError: if it is not such a stream, or has another size, or too many chunks.
        """
        if window.take(offset, len(STREAM_START)) != STREAM_START[: window.size - offset]:
            raise FormatError(f"there is no snappy stream at {offset:#x}")
        left = size
        while left:
            head = window.take(offset, _LONGEST_HEADER)
            end = offset + 4 + int.from_bytes(head[1:4], "little")
            if len(head) < 4 or end > window.size:
                return offset
            kind = head[0]
            if kind in (_COMPRESSED, _PLAIN):
                held = end - offset - 8 if kind == _PLAIN else _number(head[8:])
                if not 0 < held <= min(left, CHUNK) or len(self.at) == MAX_CHUNKS:
                    raise FormatError(f"the chunk at {offset:#x} has {held} bytes of {left}")
                self.at.append(offset)
                self.length.append(end - offset)
                self.size.append(held)
                left -= held
            elif kind < _FIRST_SKIPPED:
                raise FormatError(f"the chunk at {offset:#x} has the unknown type {kind:#x}")
            offset = end
        return offset


def _number(raw: bytes) -> int:
    """A number in groups of seven bits, the lowest first; -1 if it does not end."""
    value = 0
    for place, byte in enumerate(raw):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value
    return -1
