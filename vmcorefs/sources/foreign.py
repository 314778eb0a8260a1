"""Refusing what is not plain memory, before a map or a placement is thought of."""

from __future__ import annotations

import shlex

from vmcorefs.core.formats.foreign.recognise import recognise
from vmcorefs.core.formats.foreign.signature import FILE
from vmcorefs.errors import SourceIOError, UnsupportedError
from vmcorefs.sources.dump import File

_AT_ONCE = 4096


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
