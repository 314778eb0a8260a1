"""Writing one file of the tree with no mount: sparse, and resumed where an earlier try stopped.

The output's life is that of a dump (``output/target.py``). What an earlier try left in
``FILE.incomplete`` is not trusted: each chunk is compared and written again only where it differs,
so whatever it held, from a killed try or another image, the outcome is the same.
"""

from __future__ import annotations

from contextlib import closing

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.errors import FaultError
from vmcorefs.output.local import LocalTarget
from vmcorefs.output.target import Target
from vmcorefs.sources.evidence import NOTHING, Evidence
from vmcorefs.system.progress import Progress
from vmcorefs.tree.file import TreeFile

_CHUNK = 4 << 20
_BLOCK = 4096


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


def extract(
    file: TreeFile, path: str, *, force: bool, evidence: Evidence = NOTHING, progress: Progress
) -> Outcome:
    """Write ``file`` to ``path``.

    Args:
        file: A file of the tree.
        path: Where to; its directory must exist.
        force: Replace an existing file.
        evidence: What may not be written to.
        progress: Called for each chunk, with bytes.

    Raises:
        ConfigError: if ``path`` is an input, it exists and ``force`` is false, another process
            writes it, or ``path.incomplete`` is another user's.
        OutputError: if it cannot be written.
        FaultError: if bytes are in no input; what precedes them is in ``path.incomplete``.
        SourceIOError: if an input cannot be read.
    """
    with closing(
        LocalTarget(path, force=force, resume=True, compared=True, hashed=False, evidence=evidence)
    ) as target:
        outcome = _copy(file, target, progress)
        target.truncate(file.size)
        target.sync()
        target.publish()
    return outcome


def stream(file: TreeFile, target: Target, progress: Progress) -> Outcome:
    """Write ``file`` to a place that takes bytes in order alone: every byte, zeros too.

    Raises:
        FaultError: if bytes are in no input.
        SourceIOError: if an input cannot be read.
        OutputError: if the target cannot be written.
    """
    chunk = np.empty(_CHUNK, dtype=np.uint8)
    for offset in range(0, file.size, _CHUNK):
        data = chunk.data[: min(_CHUNK, file.size - offset)]
        file.reader.pread_into(offset, data)
        target.pwrite(data, offset)
        progress(offset + len(data), file.size)
    target.sync()
    target.publish()
    return Outcome(file.size, file.size, 0)


def _copy(file: TreeFile, target: LocalTarget, progress: Progress) -> Outcome:
    present = target.present
    ours, theirs = np.empty(_CHUNK, dtype=np.uint8), np.empty(_CHUNK, dtype=np.uint8)
    written = resumed = 0
    for offset in range(0, file.size, _CHUNK):
        size = min(_CHUNK, file.size - offset)
        progress(offset + size, file.size)
        empty = file.reader.is_zero(offset, size)
        if empty and offset >= present:
            continue
        data, old = ours[:size], theirs[:size]
        data[:] = old[:] = 0
        fault = None if empty else _read(file, offset, data)
        if fault is not None:
            data = data[: fault.offset - offset]
            old = old[: len(data)]
        if offset < present:
            left = target.pread(len(old), offset)
            old[: len(left)] = np.frombuffer(left, dtype=np.uint8)
            resumed += len(left) if np.array_equal(old[: len(left)], data[: len(left)]) else 0
        written += _write_differences(target, data, old, offset)
        if fault is not None:
            raise fault
    return Outcome(file.size, written, resumed)


def _read(file: TreeFile, offset: int, buffer: npt.NDArray[np.uint8]) -> FaultError | None:
    """Fill ``buffer``, or what of it precedes the fault that is returned."""
    try:
        file.reader.pread_into(offset, buffer.data)
    except FaultError as fault:
        return fault
    return None


def _write_differences(
    target: LocalTarget, data: npt.NDArray[np.uint8], old: npt.NDArray[np.uint8], offset: int
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
        target.pwrite(piece, offset + first * _BLOCK)
        written += len(piece)
    return written
