"""A file, or what else holds physical memory, as the user names it."""

from __future__ import annotations

import os
import re

import msgspec

from vmcorefs.core.space.units import parse_size
from vmcorefs.errors import ConfigError
from vmcorefs.system.urls import without_password

READ_TIMEOUT = 30.0
"""Seconds that an input may take to answer, if nothing else is said."""


class Far(msgspec.Struct, frozen=True):
    """How something elsewhere is read.

    Attributes:
        timeout: Seconds that a read may take; 0 for any time.
        is_kept: Whether what was read is kept, sealed, in the user's cache.
    """

    timeout: float = READ_TIMEOUT
    is_kept: bool = False


AS_EVER = Far()


class Piece(msgspec.Struct, frozen=True):
    """A file, or a part of one, that holds physical memory.

    Attributes:
        path: File, block device or character device.
        paddr: Physical address of its first byte; None for a backup whose place is to be found.
        offset: Where that byte lies in the file, in bytes.
        size: Bytes that it holds; None for all up to the file's end.
        unwrap: Whether a compressed file stands for what is in it; ``offset`` and ``size`` are then
            of that.
    """

    path: str
    paddr: int | None = None
    offset: int = 0
    size: int | None = None
    unwrap: bool = True

    @property
    def name(self) -> str:
        """The path, or the URL, as it may be shown."""
        return without_password(self.path)


_PIECE = re.compile(
    r"(?P<path>.+?)@(?P<paddr>[^@:+]+)(?::(?P<offset>[^@:+]+))?(?:\+(?P<size>[^@:+]+))?",
    re.DOTALL,  # a name may have a line end in it
)


def parse_piece(text: str) -> Piece:
    """Read ``FILE``, ``FILE@PADDR``, ``FILE@PADDR:OFFSET`` or either with ``+SIZE`` behind it.

    A file whose name is the whole text is taken as that file, ``@`` and all.

    Raises:
        ConfigError: if what follows the ``@`` is not an address.
    """
    match = _PIECE.fullmatch(text)
    is_user = match is not None and "://" in match["path"] and "/" in match["paddr"]
    if match is None or os.path.lexists(text) or is_user:
        return Piece(text)
    try:
        return Piece(
            match["path"],
            parse_size(match["paddr"]),
            parse_size(match["offset"] or "0"),
            parse_size(match["size"]) if match["size"] else None,
        )
    except ConfigError as error:
        shown = without_password(text)
        raise ConfigError(f"{shown}: {error} (FILE@PADDR[:OFFSET][+SIZE])") from None
