"""LiME's and AVML's files: ranges of memory, each behind a header with its physical addresses."""

from __future__ import annotations

import numpy as np

from vmcorefs.core.formats.compressed.snappy import CHUNK, Chunks
from vmcorefs.core.formats.lime import (
    Headers,
    Next,
    ends_of_pages,
    is_in_blocks,
    left_out,
    read_headers,
    stored_ranges,
)
from vmcorefs.core.formats.magics import AVML, LIME
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.extents import Extents, Kind, coalesce
from vmcorefs.core.space.ranges import Int64Array, Ranges, subtract, total_size
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import FormatError
from vmcorefs.sources.base import Source, read_at
from vmcorefs.sources.dumps.placed.memory import NOTHING, PlacedMemory
from vmcorefs.sources.dumps.placed.units import StoredUnits, Units, snappy_chunks
from vmcorefs.sources.input import File

_TRAILER = 8
"""Bytes behind a range of AVML 2: how long it is compressed."""


def open_lime(file: File) -> PlacedMemory:
    """Follow the headers of a file of LiME's or AVML 1's.

    Args:
        file: Closed when the sources of the returned memory are closed.

    Raises:
        FormatError: if its headers contradict each other.
        SourceIOError: if it cannot be read.
    """
    headers = _read_headers(file, LIME, lambda at, size: at + size)
    held = stored_ranges(headers, file.size)
    zeros = left_out(headers) if is_in_blocks(headers) else NOTHING
    return _placed(file, "a LiME file", (file,), headers, held, zeros)


def open_avml(file: File) -> PlacedMemory:
    """Follow the headers and find the compressed chunks of a file of AVML 2's; as ``open_lime``.

    Raises:
        FormatError, SourceIOError: as ``open_lime``.
        UnsupportedError: if the library that decompresses it is not installed.
    """
    decompress = snappy_chunks()
    chunks, window = Chunks(), Window(read_at(file), file.size)
    first: list[int] = []  # chunk of each range

    def find_next(at: int, size: int) -> int:
        first.append(len(chunks.at))
        end = chunks.follow(window, at, size)
        trailer = window.take(end, _TRAILER)
        if len(trailer) < _TRAILER or sum(chunks.size[first[-1] :]) < size:
            return file.size
        told = int.from_bytes(trailer, "little")
        if told != end - at:
            raise FormatError(f"the range at {at:#x} has {end - at} bytes, but {told} by its end")
        return end + _TRAILER

    headers = _read_headers(file, AVML, find_next)
    source = StoredUnits(file, "chunks of an AVML file", Units(*chunks.columns), decompress)
    held = _place_chunks(headers, first, np.asarray(chunks.size, dtype=np.int64))
    return _placed(file, "an AVML 2 file", (source,), headers, held, left_out(headers))


def _place_chunks(headers: Headers, first: list[int], size: Int64Array) -> Extents:
    """Where in memory each chunk belongs: one behind the other from the start of its range on."""
    before = np.concatenate(([0], np.cumsum(size)))
    count = np.diff(np.append(first, len(size)))
    start = np.repeat(headers.start - before[first], count) + before[:-1]
    order = np.argsort(start, kind="stable")
    table = Extents(
        start=start[order],
        size=size[order],
        offset=order.astype(np.int64) * CHUNK,
        source=np.zeros(len(size), dtype=np.int32),
        kind=np.full(len(size), Kind.DATA, dtype=np.int8),
    )
    return coalesce(table)


def _read_headers(file: File, magic: bytes, find_next: Next) -> Headers:
    try:
        return read_headers(read_at(file), file.size, magic, find_next)
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error


def _placed(
    file: File,
    what: str,
    sources: tuple[Source, ...],
    headers: Headers,
    held: Extents,
    zeros: Ranges,
) -> PlacedMemory:
    unread = (
        (f"{file.name}: {headers.unread} bytes at its end are not a range of memory",)
        if headers.unread
        else ()
    )
    return PlacedMemory(
        name=file.name,
        format=what,
        sources=sources,
        held=held,
        ram=headers.ranges,
        zeros=zeros,
        spared=ends_of_pages(headers),
        lost=_describe_loss(file, headers, held),
        warnings=unread,
    )


def _describe_loss(file: File, headers: Headers, held: Extents) -> str:
    missing = subtract(headers.ranges, held.ranges)
    why = headers.lost or ("the file ends within a range" if len(missing) else "")
    if not why:
        return ""
    if not len(missing):
        return f"{file.name}: {why}: the ranges that followed are lost"
    size, first = format_size(total_size(missing)), format_range(*missing[0].tolist())
    return f"{file.name}: {why}: of that, {size} are lost, {first}, and the ranges that followed"
