"""Pieces of memory: opening them, and laying them out in the physical address space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vmcorefs.core.space.extents import Extents, Kind, make_extents, merge
from vmcorefs.core.space.units import MAX_ADDRESS, format_range
from vmcorefs.errors import ConfigError, LayoutError, TruncatedError
from vmcorefs.piece import AS_EVER, Far, Piece
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.input import File, InputFile
from vmcorefs.sources.later import find
from vmcorefs.sources.unreadable import LookedAt
from vmcorefs.sources.wrappers.unwrap import AS_USUAL, Unwrapping, unwrap
from vmcorefs.system.files import split_member
from vmcorefs.system.urls import is_elsewhere


def lay_out_pieces(pieces: Sequence[Piece], sources: Sequence[File]) -> Extents:
    """Lay pieces out.

    Args:
        pieces: At least one; only a single piece may lack an address, and is then at 0.
        sources: The opened file of each.

    Returns:
        The table of what they hold by physical address; its ``source`` column indexes ``sources``.

    Raises:
        ConfigError: if a piece lacks an address, or is empty.
        LayoutError: with the names of both, if two pieces overlap.
        TruncatedError: if a piece ends past the end of its file.
    """
    tables = []
    for number, (piece, source) in enumerate(zip(pieces, sources, strict=True)):
        if piece.paddr is None and len(pieces) > 1:
            raise ConfigError(
                f"{piece.name}: one of {len(pieces)} pieces, so it needs its physical address:"
                f" {piece.name}@PADDR[:OFFSET][+SIZE]"
            )
        paddr = piece.paddr or 0
        size = _check_piece(piece, source, paddr)
        span = np.array([[paddr, paddr + size]], dtype=np.int64)
        tables.append(make_extents(span, kind=Kind.DATA, source=number, offset=piece.offset))
    _refuse_overlap(sources, tables)
    return merge(*tables)


def open_piece(
    piece: Piece,
    *,
    role: str,
    ram_end: int | None,
    how: Unwrapping = AS_USUAL,
    far: Far = AS_EVER,
) -> tuple[File, int, int]:
    """Open one piece; the arguments are those of ``open_file`` and ``unwrap``.

    Returns:
        The source, the physical address of its first byte (0 if none is given), and its size.

    Raises:
        ConfigError: if it cannot be opened, or is empty.
        UnsupportedError: if it has no address and is known to be something else than memory.
        TruncatedError: if it ends past the end of its file.
        LayoutError: if it ends beyond ``MAX_ADDRESS``.
    """
    paddr = piece.paddr or 0
    source: File = open_file(piece, role=role, ram_end=ram_end, far=far)
    try:
        if piece.unwrap:
            source, _ = unwrap(source, how, split_member(piece.path)[1])
        if piece.paddr is None:
            find("foreign.refuse_foreign")(source, LookedAt(source))
        return source, paddr, _check_piece(piece, source, paddr)
    except BaseException:
        source.close()
        raise


def open_file(
    piece: Piece, *, role: str, ram_end: int | None = None, far: Far = AS_EVER
) -> InputFile:
    """Open the file of a piece without checking its size.

    Args:
        piece: What to open.
        role: What it is to the crashed machine.
        ram_end: One past the last byte of RAM, where a character device is assumed to end; None if
            that is not known.
        far: How it is read if it is elsewhere.

    Raises:
        ConfigError: if it cannot be opened.
    """
    reach = piece.size
    if reach is None and ram_end is not None:
        reach = max(ram_end - (piece.paddr or 0), 0)
    if is_elsewhere(piece.path):
        open_far = find("remote.file.RemoteFile")
        found: InputFile = open_far(piece.path, role=role, timeout=far.timeout)
        if far.is_kept:
            find("kept.keep_blocks")(found)
        return found
    unknown = piece.offset + reach if reach is not None else None
    return FileSource(split_member(piece.path)[0], role=role, size_if_unknown=unknown)


def _check_piece(piece: Piece, source: File, paddr: int) -> int:
    size = source.size - piece.offset if piece.size is None else piece.size
    if piece.offset + size > source.size or size < 0:
        raise TruncatedError(
            f"{piece.name}: {source.size} bytes, but the piece is"
            f" {format_range(piece.offset, piece.offset + max(size, 0))} of them"
        )
    if size == 0:
        raise ConfigError(f"{piece.name}: empty, expected physical memory")
    if paddr + size > MAX_ADDRESS:
        raise LayoutError(f"{piece.name}: {size} bytes at {paddr:#x} end beyond {MAX_ADDRESS:#x}")
    return size


def _refuse_overlap(sources: Sequence[File], tables: Sequence[Extents]) -> None:
    rows = sorted(
        (int(table.start[0]), int(table.end[0]), source.name)
        for source, table in zip(sources, tables, strict=True)
    )
    for (start, end, name), (next_start, next_end, next_name) in pairwise(rows):
        if next_start < end:
            raise LayoutError(
                f"{next_name}: {format_range(next_start, next_end)} overlaps"
                f" {format_range(start, end)} from {name}"
            )
