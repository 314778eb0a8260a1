"""What an input is, told by its first bytes: a dump of one of the formats, or else raw memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from vmcorefs.config import Piece
from vmcorefs.core.elf import ELF_MAGIC
from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.sources.dump import DumpFile
from vmcorefs.sources.elf import open_elf
from vmcorefs.sources.file import FileSource

_VMCORE = "vmcore"
_LONGEST_MAGIC = 16


def open_dump(pieces: Sequence[Piece]) -> DumpFile | None:
    """Open a dump, if that is what the user gives.

    A piece whose physical address is given, or of which only a part is, is raw memory whatever
    its first bytes are.

    Args:
        pieces: What the user gives. A directory is a mounted tree, and its ``vmcore`` is meant.

    Returns:
        The dump, or None for raw memory.

    Raises:
        ConfigError: if an input cannot be opened, or is a dump and not the only input.
        FormatError: if it is a dump and broken.
        UnsupportedError: if it is a file of a format that is known and cannot be read.
        SourceIOError: if it cannot be read.
    """
    for piece in pieces:
        if piece.paddr is None and not piece.offset and piece.size is None:
            dump = _open_if_dump(piece.path, alone=len(pieces) == 1)
            if dump is not None:
                return dump
    return None


def _open_if_dump(path: str, *, alone: bool) -> DumpFile | None:
    file = _open(path)
    try:
        opener = _opener_of(file, alone=alone)
        dump = opener(file) if opener is not None else None
    except BaseException:
        file.close()
        raise
    if dump is None:
        file.close()
    return dump


def _open(path: str) -> FileSource:
    if os.path.isdir(path):
        tree = os.path.join(path, _VMCORE)
        if not os.path.isfile(tree):
            raise ConfigError(f"{path}: a directory that is no mounted tree: it has no {_VMCORE}")
        path = tree
    return FileSource(path, role="image", size_if_unknown=0)


def _opener_of(file: FileSource, *, alone: bool) -> Callable[[FileSource], DumpFile] | None:
    if file.size < _LONGEST_MAGIC:  # also a character device: it is raw memory
        return None
    start = bytearray(_LONGEST_MAGIC)
    file.pread_into(0, memoryview(start))
    opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), None)
    if opener is not None and not alone:
        raise ConfigError(
            f"{file.name}: a dump says itself where its memory belongs: give it alone, or say that"
            f" it is raw memory by its address, as in {file.name}@0"
        )
    return opener


def _refuse_flattened(file: FileSource) -> DumpFile:
    raise UnsupportedError(
        f"{file.name}: a flattened dump, which cannot be read by position; rearrange it first:"
        f" makedumpfile -R dump <{file.name}"
    )


def _refuse_compressed(file: FileSource) -> DumpFile:
    raise UnsupportedError(f"{file.name}: a kdump-compressed dump, which cannot be read yet")


_OPENERS: Final[dict[bytes, Callable[[FileSource], DumpFile]]] = {
    ELF_MAGIC: open_elf,
    b"makedumpfile\0\0\0\0": _refuse_flattened,
    b"KDUMP   ": _refuse_compressed,
}
