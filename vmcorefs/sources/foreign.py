"""Refusing what is not plain memory, before a map or a placement is thought of."""

from __future__ import annotations

import shlex
import zlib

from vmcorefs.core.formats.foreign.recognise import recognise
from vmcorefs.core.formats.foreign.signature import FILE
from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.input import File
from vmcorefs.sources.unreadable import LookedAt, read_around

_SAMPLE = 1 << 16


def refuse_foreign(file: File, looked: LookedAt) -> None:
    """Refuse a file of a format that is known not to be plain memory.

    A character device has no format, and reading it may have effects: it is not looked at.

    Args:
        file: The file.
        looked: The same, as it is looked at.

    Raises:
        UnsupportedError: with the format, and what to do.
    """
    if file.kind == "character device" or not file.size:
        return

    def read(offset: int, size: int) -> bytes:
        return _read_what_can_be(looked, offset, min(size, file.size - offset))

    foreign = recognise(read, file.size)
    if foreign is not None:
        advice = foreign.advice.replace(FILE, shlex.quote(file.name))
        message = f"{file.name}: not plain memory, but {foreign.what}"
        raise UnsupportedError(f"{message}; {advice}" if advice else message)


def doubt(file: File, looked: LookedAt) -> str:
    """Why a file of no known format may not be plain memory either; empty if nothing says so.

    What is compressed or encrypted everywhere does not shrink; memory does, somewhere. The
    arguments are those of ``refuse_foreign``.
    """
    if file.kind == "character device" or file.size < 4 * _SAMPLE:
        return ""
    places = (0, file.size // 2, file.size - _SAMPLE)
    for offset in places:
        sample = _read_what_can_be(looked, offset, _SAMPLE)
        if len(zlib.compress(sample, 1)) < _SAMPLE:
            return ""
    return (
        f"{file.name}: its start, its middle and its end look compressed or encrypted, which plain"
        " memory hardly ever is: is it memory?"
    )


def _read_what_can_be(looked: LookedAt, offset: int, size: int) -> bytes:
    """Bytes of a file; those that cannot be read are zeros, which no format begins with."""
    buffer = bytearray(max(size, 0))
    read_around(looked.pread_into, offset, memoryview(buffer))
    return bytes(buffer)
