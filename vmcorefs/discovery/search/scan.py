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
from vmcorefs.core.space.columns import run_edges
from vmcorefs.core.space.extents import Extents, Kind
from vmcorefs.core.space.ranges import Int64Array, distinct
from vmcorefs.errors import FaultError, SourceIOError
from vmcorefs.sources.base import Source
from vmcorefs.sources.unreadable import read_around
from vmcorefs.system.progress import Progress

GRID = 1024
"""Bytes between the places that are looked at."""

MAX_HITS = 1 << 16
"""Most places of each kind to keep; a real image has a few dozen."""

_CHUNK = 1 << 20  # fits into the second-level cache, so it is searched while it is there
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
        SourceIOError, FaultError: if nothing can be read.
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
        SourceIOError, FaultError: if nothing can be read.
    """
    buffer = np.empty(_CHUNK, dtype=np.uint8)
    words = buffer.view(np.uint32).reshape(-1, _WORDS)
    spans = _spans(held.only(Kind.DATA))
    done, total = 0, int(spans[2].sum())
    looked, failure = False, None
    for number, start, size in zip(*(column.tolist() for column in spans), strict=True):
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


def _spans(data: Extents) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Source, offset and size of each run of bytes, in order.

    Rows that follow each other in a source are one, as those of a compressed dump do: a million
    pages that are apart in memory would else be read one by one. The grid stays what it is.
    """
    if not len(data):
        return data.source.astype(np.int64), data.offset, data.size
    order = np.lexsort((data.size, data.offset, data.source))
    source, start, size = data.source[order].astype(np.int64), data.offset[order], data.size[order]
    joins = (source[1:] == source[:-1]) & (start[1:] == start[:-1] + size[:-1])
    joins &= size[:-1] % GRID == 0
    first, last = run_edges(joins)
    return source[first], start[first], start[last] + size[last] - start[first]


def _read(source: Source, offset: int, buffer: memoryview) -> SourceIOError | FaultError | None:
    """Read a chunk, or as much of it as possible.

    A bad page must not keep the rest of memory from being searched. Pages that cannot be read
    become zeros, which only this search sees.

    Returns:
        The error if nothing of it can be read; otherwise None.
    """
    try:
        source.pread_into(offset, buffer)
    except (SourceIOError, FaultError) as error:
        lost = read_around(source.pread_into, offset, buffer)
        return error if sum(end - start for start, end in lost) == len(buffer) else None
    return None


def locate(memory: Extents, place: Place) -> int | None:
    """The physical address of a place in an input, or None if it is not memory."""
    return next(iter(locate_all(memory, [place])), None)


def locate_all(memory: Extents, places: Sequence[Place]) -> list[int]:
    """The physical addresses of places in the inputs, in their order, but for what is not memory.

    Where rows share bytes of an input, the one that begins nearest before a place counts.
    """
    source = np.array([place.source for place in places], dtype=np.int64)
    offset = np.array([place.offset for place in places], dtype=np.int64)
    found = np.full(len(places), -1, dtype=np.int64)
    for number in distinct(source).tolist():
        rows = np.flatnonzero((memory.kind == Kind.DATA) & (memory.source == number))
        rows = rows[np.argsort(memory.offset[rows], kind="stable")]
        asked = np.flatnonzero(source == number)
        before = np.searchsorted(memory.offset[rows], offset[asked], side="right") - 1
        asked, row = asked[before >= 0], rows[before[before >= 0]]
        inside = offset[asked] - memory.offset[row]
        held = inside < memory.size[row]
        found[asked[held]] = (memory.start[row] + inside)[held]
    located: list[int] = found[found >= 0].tolist()
    return located


def place_of(memory: Extents, paddr: int) -> Place | None:
    """The place in an input of a physical address, or None if no input holds it."""
    inside = (memory.kind == Kind.DATA) & (memory.start <= paddr) & (paddr < memory.end)
    rows: Int64Array = np.flatnonzero(inside)
    if not len(rows):
        return None
    row = int(rows[0])
    return Place(int(memory.source[row]), int(memory.offset[row]) + paddr - int(memory.start[row]))
