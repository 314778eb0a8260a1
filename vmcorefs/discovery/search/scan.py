"""One pass over the captured bytes, for the beginnings of ELF headers and VMCOREINFO notes.

Both are aligned to the crashed kernel's pages (an elfcorehdr of kexec-tools to 1 KiB), and only a
range of low memory, whose size firmware counts in KiB, can shift pages in a file by less than a
page. So looking at each KiB, counted from where memory starts in its file, finds everything,
wherever the pieces of the image belong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from vmcorefs.core.elf.elf import ELF_MAGIC
from vmcorefs.core.elf.vmcoreinfo import NOTE_NAME
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.errors import SourceIOError
from vmcorefs.sources.base import Source
from vmcorefs.system.progress import Progress

GRID = 1024
"""Bytes between the places that are looked at."""

MAX_HITS = 1 << 16
"""Most places of each kind to keep; a real image has a few dozen."""

_CHUNK = 1 << 20  # fits into the second-level cache, so it is searched while it is there
_BLOCK = 1 << 16  # the size of reads where a chunk cannot be read
_WORDS = GRID // 4
_ELF = np.frombuffer(ELF_MAGIC, dtype=np.uint32)[0]
_NAME = np.frombuffer(NOTE_NAME[:4], dtype=np.uint32)[0]
_NAME_WORD = 3  # after n_namesz, n_descsz and n_type


class Place(msgspec.Struct, frozen=True):
    """A byte of an input.

    Attributes:
        source: Index of the source.
        offset: In bytes from the start of the source.
    """

    source: int
    offset: int


class Hits(msgspec.Struct, frozen=True):
    """The places that a scan found, in the order of the sources.

    Attributes:
        elf: Where the ELF magic is.
        vmcoreinfo: Where a note begins whose name starts like VMCOREINFO's.
        complete: Whether there were no more than ``MAX_HITS`` of either.
    """

    elf: tuple[Place, ...]
    vmcoreinfo: tuple[Place, ...]
    complete: bool = True


def scan(sources: Sequence[Source], held: Extents, progress: Progress | None = None) -> Hits:
    """Search all memory that the sources hold.

    Args:
        sources: The opened inputs.
        held: Which of their bytes are memory; where it belongs does not matter here.
        progress: Told of each chunk, in bytes.

    Raises:
        SourceIOError: if nothing can be read, or a source has shrunk.
    """
    elf: list[Place] = []
    notes: list[Place] = []
    complete = True
    for number, offset, words in iter_chunks(sources, held, progress):
        for column, magic, hits in ((0, _ELF, elf), (_NAME_WORD, _NAME, notes)):
            rows = np.flatnonzero(words[:, column] == magic).tolist()
            complete &= len(hits) + len(rows) <= MAX_HITS
            hits.extend(Place(number, offset + row * GRID) for row in rows[: MAX_HITS - len(hits)])
    return Hits(tuple(elf), tuple(notes), complete)


def iter_chunks(
    sources: Sequence[Source], held: Extents, progress: Progress | None = None
) -> Iterator[tuple[int, int, np.ndarray[tuple[int, int], np.dtype[np.uint32]]]]:
    """Source, offset and words of each chunk, a row per KiB; the words are overwritten.

    The chunks are in the order of source and offset. Parts that are known to be zeros without
    reading, or that cannot be read, are left out.

    Raises:
        SourceIOError: if nothing can be read, or a source has shrunk.
    """
    buffer = np.empty(_CHUNK, dtype=np.uint8)
    words = buffer.view(np.uint32).reshape(-1, _WORDS)
    data = held.only(Kind.DATA)
    spans = sorted(zip(data.source.tolist(), data.offset.tolist(), data.size.tolist(), strict=True))
    done, total = 0, sum(size for _, _, size in spans)
    looked, failure = False, None
    for number, start, size in spans:
        source, end = sources[number], start + size
        offset = start
        while end - offset >= GRID:
            # ask once per hole, however long: an image of 1 TiB may be one hole
            skipped = (source.next_data(offset, end) - offset) // GRID * GRID
            length = min(_CHUNK, (end - offset - skipped) // GRID * GRID)
            done += skipped + length
            if progress is not None:
                progress(done, total)
            if length:
                error = _read(source, offset + skipped, buffer.data[:length])
                if error is None:
                    looked = True
                    yield number, offset + skipped, words[: length // GRID]
                failure = failure or error
            offset += skipped + length
    if failure is not None and not looked:
        raise failure


def _read(source: Source, offset: int, buffer: memoryview) -> SourceIOError | None:
    """Read a chunk, or as much of it as possible.

    A bad block must not keep the rest of memory from being searched. Blocks that cannot be read
    become zeros, which only this search sees.

    Returns:
        The error if nothing of it can be read; otherwise None.

    Raises:
        SourceIOError: if the input has shrunk.
    """
    try:
        source.pread_into(offset, buffer)
    except SourceIOError as error:
        if not isinstance(error.__cause__, OSError):
            raise  # not a bad block: the input has changed
        unread = 0
        for at in range(0, len(buffer), _BLOCK):
            block = buffer[at : at + _BLOCK]
            try:
                source.pread_into(offset + at, block)
            except SourceIOError:
                block[:] = bytes(len(block))
                unread += len(block)
        return error if unread == len(buffer) else None
    return None


def locate(memory: Extents, place: Place) -> int | None:
    """The physical address of a place in an input, or None if it is not memory."""
    inside = (
        (memory.kind == Kind.DATA)
        & (memory.source == place.source)
        & (memory.offset <= place.offset)
        & (place.offset < memory.offset + memory.size)
    )
    rows: Int64Array = np.flatnonzero(inside)
    if not len(rows):
        return None
    row = int(rows[0])
    return int(memory.start[row]) + place.offset - int(memory.offset[row])


def place_of(memory: Extents, paddr: int) -> Place | None:
    """The place in an input of a physical address, or None if no input holds it."""
    inside = (memory.kind == Kind.DATA) & (memory.start <= paddr) & (paddr < memory.end)
    rows: Int64Array = np.flatnonzero(inside)
    if not len(rows):
        return None
    row = int(rows[0])
    return Place(int(memory.source[row]), int(memory.offset[row]) + paddr - int(memory.start[row]))
