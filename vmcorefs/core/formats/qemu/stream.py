"""The sections of a stream, up to the end of RAM (QEMU's migration/savevm.c; all is big-endian).

A stream begins with a magic number, a version, and mostly a configuration with the name of the
machine type. A section has a type, a number, in its first part a name, and its content, whose
length is not told: what is not RAM cannot be skipped. RAM comes first, and what comes behind it is
not looked at.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from msgspec.structs import replace

from vmcorefs.core.formats.magics import QEMU
from vmcorefs.core.formats.window import Window
from vmcorefs.errors import FormatError, UnsupportedError

_START, _PART, _END, _FULL, _SUBSECTION = 1, 2, 3, 4, 5
_CONFIGURATION, _COMMAND, _FOOTER = 7, 8, 0x7E
_MOST_NAMES: Final = 1 << 12
_RAM: Final = "ram"


class CutError(Exception):
    """The file ends within the stream."""


class Cursor:
    """Goes through a stream.

    Attributes:
        at: Where it is in the file.
        window: Reads the file.
    """

    def __init__(self, window: Window, at: int) -> None:
        self.window, self.at = window, at

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            CutError: if there are fewer; ``at`` then stays where it is.
        """
        data = self.window.take(self.at, size)
        if len(data) < size:
            raise CutError
        self.at += size
        return data

    def number(self, size: int) -> int:
        """The next number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def text(self, length_size: int = 1) -> str:
        """The next string, which has its length in front of it."""
        length = self.number(length_size)
        if length >= _MOST_NAMES:
            raise FormatError(f"a name of {length} bytes before {self.at:#x}")
        return self.take(length).decode("ascii", "replace")


class Configuration(msgspec.Struct, frozen=True):
    """What a stream says of its machine.

    Attributes:
        machine: The type, such as ``pc-q35-7.2``; empty if it does not say.
        page_size: Bytes in a page of the stream.
        capabilities: Those that the stream depends on.
    """

    machine: str = ""
    page_size: int = 4096
    capabilities: tuple[str, ...] = ()


def read_start(cursor: Cursor) -> Configuration:
    """Read what precedes the first section.

    Raises:
        CutError: if the file ends there.
        FormatError: if it cannot be true.
    """
    if cursor.take(len(QEMU)) != QEMU:
        raise FormatError(f"no QEMU stream of version 3 begins at {cursor.at - len(QEMU):#x}")
    if not _comes(cursor, _CONFIGURATION):
        return Configuration()
    told = Configuration(cursor.text(4))
    while _comes(cursor, _SUBSECTION):
        told = _read_part(cursor, told)
    return told


def _read_part(cursor: Cursor, told: Configuration) -> Configuration:
    name, _version = cursor.text(), cursor.number(4)
    if name == "configuration/target-page-bits":
        bits = cursor.number(4)
        if not 10 <= bits <= 16:
            raise FormatError(f"pages of 2^{bits} bytes")
        return replace(told, page_size=1 << bits)
    if name == "configuration/capabilities":
        count = cursor.number(4)
        if count > _MOST_NAMES:
            raise FormatError(f"{count} capabilities")
        return replace(told, capabilities=tuple(cursor.text() for _ in range(count)))
    if name != "configuration/uuid":
        raise FormatError(f"an unknown part of the configuration: {name!r}")
    cursor.take(16)
    return told


def _comes(cursor: Cursor, kind: int) -> bool:
    """Whether a byte comes next, which is then taken."""
    found = cursor.window.take(cursor.at, 1)
    if not found:
        raise CutError
    cursor.at += found[0] == kind
    return found[0] == kind


def read_section(cursor: Cursor, ram: int | None) -> tuple[int, bool]:
    """Read the start of a section of RAM.

    Args:
        cursor: Where it begins, or the footer of the section before it, or a command to the other
            side, which has its length in it.
        ram: The number of RAM's sections; None before the first one.

    Returns:
        That number, and whether it is the last of them.

    Raises:
        CutError: if the file ends there.
        UnsupportedError: if it is not of RAM.
        FormatError: if it is no section.
    """
    if ram is not None and _comes(cursor, _FOOTER):
        cursor.take(4)
    while _comes(cursor, _COMMAND):  # from QEMU 10 on, one says that the rest is sent at a stop
        cursor.take(2)
        cursor.take(cursor.number(2))
    where = cursor.at
    kind, number = struct.unpack(">BI", cursor.take(5))
    if kind in (_START, _FULL):
        name = cursor.text()
        _instance, version = cursor.number(4), cursor.number(4)
        if name == _RAM and kind == _START and ram is None:
            if version != 4:
                raise UnsupportedError(f"RAM in a form of version {version}, expected 4")
            return number, False
        raise UnsupportedError(
            f"a section of {name!r} at {where:#x}, before the end of RAM, whose length is not told"
        )
    if kind not in (_PART, _END) or ram is None:
        raise FormatError(f"no section begins at {where:#x}")
    if number != ram:
        raise UnsupportedError(
            f"the section at {where:#x} is not RAM's, and its length is not told"
        )
    return ram, kind == _END
