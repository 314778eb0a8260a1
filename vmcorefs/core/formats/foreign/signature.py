"""How a file that is not memory is known, and the parts that its descriptions are made of."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

ReadAt = Callable[[int, int], bytes]
"""From ``(offset, size)`` to the bytes there: fewer at the end of the file, zeros for those that
cannot be read."""

HEAD_SIZE = 0x11000
"""Bytes of a file's start that are looked at: btrfs has its magic the furthest in, at 0x10040."""

FILE, NEW = "{file}", "NEW"


class Foreign(msgspec.Struct, frozen=True):
    """What a file is in place of memory.

    Attributes:
        what: Its format, for people: "a gzip file".
        advice: What to do, with ``FILE`` where its name belongs; empty if nothing helps.
        wrapper: What memory may be wrapped in by it; empty if it is no wrapper.
    """

    what: str
    advice: str = ""
    wrapper: str = ""


class Start(msgspec.Struct, frozen=True):
    """The start of a file.

    Attributes:
        head: Its first bytes, at most ``HEAD_SIZE``.
        size: Bytes in the whole file.
    """

    head: bytes
    size: int

    def number(self, offset: int, size: int, *, big: bool = False) -> int:
        """The unsigned number of ``size`` bytes at ``offset``; what is past the end counts as 0."""
        raw = self.head[offset : offset + size].ljust(size, b"\0")
        return int.from_bytes(raw, "big" if big else "little")


class Signature(msgspec.Struct, frozen=True):
    """How one format is known.

    Attributes:
        foreign: What a file with it is.
        magic: Bytes that it has; any of them is enough.
        at: Where they are.
        check: What else must hold, for a magic that memory might have by chance.
    """

    foreign: Foreign
    magic: tuple[bytes, ...]
    at: int = 0
    check: Callable[[Start], bool] | None = None

    def fits(self, start: Start) -> bool:
        """Whether a file begins like that."""
        if not start.head.startswith(self.magic, self.at):
            return False
        return self.check is None or self.check(start)
