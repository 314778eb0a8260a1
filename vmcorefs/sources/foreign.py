"""Refusing what is not plain memory, before a map or a placement is thought of."""

from __future__ import annotations

import shlex
import zlib

from vmcorefs.core.formats.foreign.recognise import recognise
from vmcorefs.core.formats.foreign.signature import FILE
from vmcorefs.errors import SourceIOError, UnsupportedError
from vmcorefs.sources.dump import File

_AT_ONCE = 4096
_SAMPLE = 1 << 16


def refuse_foreign(file: File) -> None:
    """Refuse a file of a format that is known not to be plain memory.

    A character device has no format, and reading it may have effects: it is not looked at.

    Raises:
        UnsupportedError: with the format, and what to do.
    """
    if file.kind == "character device" or not file.size:
        return

    def read(offset: int, size: int) -> bytes:
        return _read_what_can_be(file, offset, min(size, file.size - offset))

    foreign = recognise(read, file.size, file.name)
    if foreign is not None:
        advice = foreign.advice.replace(FILE, shlex.quote(file.name))
        message = f"{file.name}: not plain memory, but {foreign.what}"
        raise UnsupportedError(f"{message}; {advice}" if advice else message)


def doubt(file: File) -> str:
    """Why a file of no known format may not be plain memory either; empty if nothing says so.

    What is compressed or encrypted everywhere does not shrink; memory does, somewhere.
    """
    if file.kind == "character device" or file.size < 4 * _SAMPLE:
        return ""
    places = (0, file.size // 2, file.size - _SAMPLE)
    for offset in places:
        sample = _read_what_can_be(file, offset, _SAMPLE)
        if len(zlib.compress(sample, 1)) < _SAMPLE:
            return ""
    return (
        f"{file.name}: its start, its middle and its end look compressed or encrypted, which plain"
        " memory hardly ever is: is it memory?"
    )


def _read_what_can_be(file: File, offset: int, size: int) -> bytes:
    """Bytes of a file; those that cannot be read are zeros, which no format begins with."""
    buffer = bytearray(max(size, 0))
    view = memoryview(buffer)
    for at in range(0, len(buffer), _AT_ONCE):
        piece = view[at : at + _AT_ONCE]
        try:
            file.pread_into(offset + at, piece)
        except SourceIOError:
            piece[:] = bytes(len(piece))
    return bytes(buffer)
