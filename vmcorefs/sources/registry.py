"""What an input is, told by its first bytes: a dump of one of the formats, or else raw memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from vmcorefs.config import Piece
from vmcorefs.core.elf.elf import ELF_MAGIC
from vmcorefs.core.formats.flattened import SIGNATURE as FLATTENED
from vmcorefs.core.formats.kdump.headers import SIGNATURE as KDUMP
from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.sources.diskdump import open_diskdump
from vmcorefs.sources.dump import DumpFile, File
from vmcorefs.sources.elf import open_elf
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.flattened import Unflattened

_VMCORE = "vmcore"
_LONGEST_MAGIC = 16


def open_dump(pieces: Sequence[Piece]) -> DumpFile | None:
    """Open a dump, if that is what the user gives.

    A piece whose physical address is given, or of which only a part is, is raw memory whatever
    its first bytes are.

    Args:
        pieces: What the user gives; the parts of a dump that was split, in any order. A directory
            is a mounted tree, and its ``vmcore`` is meant.

    Returns:
        The dump, or None for raw memory.

    Raises:
        ConfigError: if an input cannot be opened, or is a dump and there are others.
        FormatError: if it is a dump and broken.
        UnsupportedError: if it is a dump that cannot be read here.
        SourceIOError: if it cannot be read.
    """
    files: list[File] = []
    try:
        for piece in pieces:
            if piece.paddr is None and not piece.offset and piece.size is None:
                files.append(_open(piece.path))  # noqa: PERF401  # one that fails closes the others
        formats = [_format_of(file) for file in files]
        dump = _open_dump(files, formats, len(pieces)) if any(formats) else None
    except BaseException:
        _close(files)
        raise
    if dump is None:
        _close(files)
    return dump


def _open_dump(files: list[File], formats: list[_Format | None], count: int) -> DumpFile:
    for number, (file, found) in enumerate(zip(files, formats, strict=True)):
        if found is not None and found.is_flattened:
            files[number] = Unflattened(file)
            formats[number] = _format_of(files[number])
    one = formats[0]
    if one is not None and one.open_one is not None and count == 1:
        return one.open_one(files[0])
    if one is not None and one.open_parts is not None and formats == [one] * count:
        return one.open_parts(files)
    dumps = [file for file, found in zip(files, formats, strict=True) if found is not None]
    if not dumps or (one is not None and one.is_flattened):
        raise UnsupportedError(f"{files[0].name}: a flattened stream of what is no known dump")
    strange = dumps[0]
    raise ConfigError(
        f"{strange.name}: a dump says itself where its memory belongs: give it alone, or say that"
        f" it is raw memory by its address, as in {strange.name}@0"
    )


def _open(path: str) -> FileSource:
    if os.path.isdir(path):
        tree = os.path.join(path, _VMCORE)
        if not os.path.isfile(tree):
            raise ConfigError(f"{path}: a directory that is no mounted tree: it has no {_VMCORE}")
        path = tree
    return FileSource(path, role="image", size_if_unknown=0)


def _close(files: Sequence[File]) -> None:
    for file in files:
        file.close()


def _format_of(file: File) -> _Format | None:
    if file.size < _LONGEST_MAGIC:  # also a character device: it is raw memory
        return None
    start = bytearray(_LONGEST_MAGIC)
    file.pread_into(0, memoryview(start))
    return next((one for one in _FORMATS if start.startswith(one.magic)), None)


class _Format(msgspec.Struct, frozen=True):
    """A format of dumps.

    Attributes:
        magic: What a file of it begins with.
        open_one: Opens a dump that is one file.
        open_parts: Opens a dump of one or several files.
        is_flattened: Whether it is a stream, with another format inside.
    """

    magic: bytes
    open_one: Callable[[File], DumpFile] | None = None
    open_parts: Callable[[Sequence[File]], DumpFile] | None = None
    is_flattened: bool = False


_FORMATS: Final = (
    _Format(ELF_MAGIC, open_one=open_elf),
    _Format(KDUMP, open_parts=open_diskdump),
    _Format(FLATTENED, is_flattened=True),
)
