"""Writing one file of the tree with no mount: sparse, and resumed where an earlier try stopped.

The bytes go to ``FILE.incomplete``, which is synced and renamed once it is whole, so a complete
name never stands on half a dump. An existing ``FILE.incomplete`` is not trusted: each of its
chunks is compared and written again only where it differs, so whatever it held, from a killed try
or another image, the outcome is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.output.local import sync_directory
from vmcorefs.tree.file import TreeFile

_CHUNK = 4 << 20
_BLOCK = 4096

Progress = Callable[[int], None]
"""Called with the number of bytes that have been dealt with since the last call."""


class Outcome(msgspec.Struct, frozen=True):
    """What an extraction did.

    Attributes:
        size: Bytes in the file.
        written: Bytes that were written: not zeros, and not there already.
        resumed: Bytes of an earlier try that were found to be right.
    """

    size: int
    written: int
    resumed: int


def extract(file: TreeFile, path: str, *, force: bool, progress: Progress) -> Outcome:
    """Write ``file`` to ``path``.

    Args:
        file: A file of the tree.
        path: Where to; its directory must exist.
        force: Replace an existing file.
        progress: Told of every chunk.

    Raises:
        ConfigError: if ``path`` exists and ``force`` is false.
        OutputError: if it cannot be written.
        FaultError: if bytes are in no input; what precedes them is in ``path.incomplete``.
        SourceIOError: if an input cannot be read.
    """
    if os.path.lexists(path) and not force:
        raise ConfigError(f"{path}: exists already; pass --force to replace it")
    incomplete = f"{path}.incomplete"
    try:
        target = os.open(incomplete, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            outcome = _copy(file, target, progress)
            os.ftruncate(target, file.size)
            os.fsync(target)
        finally:
            os.close(target)
        os.rename(incomplete, path)
        sync_directory(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write: {error.strerror}; {incomplete} is kept"
        ) from error
    return outcome


def stream(file: TreeFile, target: int, progress: Progress) -> Outcome:
    """Write ``file`` to an open descriptor that may be a pipe: every byte, zeros too.

    Raises:
        FaultError: if bytes are in no input.
        SourceIOError: if an input cannot be read.
        OutputError: if the descriptor cannot be written.
    """
    chunk = np.empty(_CHUNK, dtype=np.uint8)
    for offset in range(0, file.size, _CHUNK):
        data = chunk.data[: min(_CHUNK, file.size - offset)]
        file.reader.pread_into(offset, data)
        done = 0
        while done < len(data):
            try:
                done += os.write(target, data[done:])
            except OSError as error:
                raise OutputError(f"cannot write the output: {error.strerror}") from error
        progress(len(data))
    return Outcome(file.size, file.size, 0)


def _copy(file: TreeFile, target: int, progress: Progress) -> Outcome:
    present = os.fstat(target).st_size
    ours, theirs = np.empty(_CHUNK, dtype=np.uint8), np.empty(_CHUNK, dtype=np.uint8)
    written = resumed = 0
    for offset in range(0, file.size, _CHUNK):
        size = min(_CHUNK, file.size - offset)
        progress(size)
        empty = file.reader.is_zero(offset, size)
        if empty and offset >= present:
            continue
        data, old = ours[:size], theirs[:size]
        data[:] = old[:] = 0
        if not empty:
            file.reader.pread_into(offset, data.data)
        if offset < present:
            count = _read_back(target, old.data, offset)
            resumed += count if np.array_equal(old[:count], data[:count]) else 0
        written += _write_differences(target, data, old, offset)
    return Outcome(file.size, written, resumed)


def _read_back(target: int, buffer: memoryview, offset: int) -> int:
    done = 0
    while done < len(buffer):
        count = os.preadv(target, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def _write_differences(
    target: int, data: npt.NDArray[np.uint8], old: npt.NDArray[np.uint8], offset: int
) -> int:
    """Write the blocks of ``data`` that differ from ``old``; a hole reads as zeros, and is both."""
    if np.array_equal(data, old):
        return 0
    whole = len(data) - len(data) % _BLOCK
    differs = (data[:whole].reshape(-1, _BLOCK) != old[:whole].reshape(-1, _BLOCK)).any(axis=1)
    if whole < len(data):
        differs = np.append(differs, not np.array_equal(data[whole:], old[whole:]))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], differs, [False])).astype(np.int8)))
    written = 0
    for first, last in edges.reshape(-1, 2).tolist():
        piece = data.data[first * _BLOCK : last * _BLOCK]
        done = 0
        while done < len(piece):
            done += os.pwrite(target, piece[done:], offset + first * _BLOCK + done)
        written += len(piece)
    return written
