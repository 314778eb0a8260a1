"""Writing one file of the tree with no mount: sparse, and resumed where an earlier try stopped.

The output's life is that of a dump (``output/target.py``). What an earlier try left in
``FILE.incomplete`` is not trusted: each chunk is compared and written again only where it differs,
so whatever it held, from a killed try or another image, the outcome is the same.

What cannot be read does not keep the rest from being written. It reads as zeros in the output,
which therefore does not get its name.
"""

from __future__ import annotations

from contextlib import closing

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.space.units import page_in_the_middle
from vmcorefs.errors import FaultError, SourceIOError, VmcorefsError
from vmcorefs.output.local import LocalTarget
from vmcorefs.output.losses import Losses
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
        losses: Bytes that could not be read or are in no input, by their offset in the file.
        name: What the output is called now: not by its name, if there are losses.
    """

    size: int
    written: int
    resumed: int
    losses: Losses
    name: str


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
        VmcorefsError: as making the file's table says.
    """
    with closing(
        LocalTarget(path, force=force, resume=True, compared=True, hashed=False, evidence=evidence)
    ) as target:
        losses = Losses()
        written, resumed = _copy(file, target, losses, progress)
        target.truncate(file.size)
        return _finish(target, Outcome(file.size, written, resumed, losses, path))


def _finish(target: Target, outcome: Outcome) -> Outcome:
    target.sync()
    if outcome.losses.size:
        return replace(outcome, name=target.incomplete or outcome.name)
    target.publish()
    return outcome


def stream(file: TreeFile, target: Target, progress: Progress) -> Outcome:
    """Write ``file`` to a place that takes bytes in order alone: every byte, zeros too.

    Raises:
        OutputError: if the target cannot be written.
        VmcorefsError: as making the file's table says.
    """
    losses = Losses()
    chunk = np.empty(_CHUNK, dtype=np.uint8)
    for offset in range(0, file.size, _CHUNK):
        data = chunk.data[: min(_CHUNK, file.size - offset)]
        _read(file, offset, data, losses)
        target.pwrite(data, offset)
        progress(offset + len(data), file.size)
    return _finish(target, Outcome(file.size, file.size, 0, losses, target.name))


def _copy(
    file: TreeFile, target: LocalTarget, losses: Losses, progress: Progress
) -> tuple[int, int]:
    """Write what is not there already; how much that is, and how much was."""
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
        before = losses.size
        if not empty:
            _read(file, offset, data.data, losses)
        if losses.size - before == size and offset >= present:
            continue  # nothing of it
        if offset < present:
            left = target.pread(size, offset)
            old[: len(left)] = np.frombuffer(left, dtype=np.uint8)
            resumed += len(left) if np.array_equal(old[: len(left)], data[: len(left)]) else 0
        written += _write_differences(target, data, old, offset)
    return written, resumed


def _read(file: TreeFile, offset: int, buffer: memoryview, losses: Losses) -> None:
    """Fill ``buffer``: what is in no input or cannot be read becomes zeros, and is a loss."""
    parts = [(0, len(buffer))]
    while parts:
        start, end = parts.pop()
        try:
            file.reader.pread_into(offset + start, buffer[start:end])
        except FaultError as fault:
            # what precedes it has been read
            low = fault.offset - offset
            high = min(low + fault.size, end)
            _lose(buffer, low, high, offset, losses, fault)
            if high < end:
                parts.append((high, end))
        except SourceIOError as error:
            middle = page_in_the_middle(offset + start, offset + end) - offset
            if middle < end:
                parts += ((middle, end), (start, middle))
            else:
                _lose(buffer, start, end, offset, losses, error)


def _lose(
    buffer: memoryview, low: int, high: int, offset: int, losses: Losses, why: VmcorefsError
) -> None:
    buffer[low:high] = bytes(high - low)
    losses.add(offset + low, high - low, str(why))


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
