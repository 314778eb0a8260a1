"""A vmcore without the pages that a dump level leaves out.

A long run of pages that are left out takes no room in the file. Shorter runs stay in the file as
holes, because every further PT_LOAD makes each address lookup of a tool slower: crash and
makedumpfile go through all of them.

``makedumpfile -E`` marks such a run by a ``p_memsz`` above ``p_filesz`` (makedumpfile.c,
``write_elf_pages_cyclic``). Its own reader, where a segment is page aligned so that it can be
mapped, then looks for pages as if all of ``p_memsz`` were in the file (elf_info.c,
``offset_to_pt_load_end``): it copies the wrong ones, or dies of SIGBUS. And volatility3 and
LeechCore pass over a segment that has some of its bytes. So a run that keeps a header has a PT_LOAD
of its own, with no bytes, and with a ``p_offset`` behind all there are.
"""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.elf.elf import PT_LOAD, PhdrTable, headers_size, pack_headers
from vmcorefs.core.layouts.kernel import VmcoreLayout
from vmcorefs.core.space.extents import Windows
from vmcorefs.core.space.ranges import Int64Array, Ranges, normalise, pair_overlaps
from vmcorefs.core.space.units import align_up
from vmcorefs.errors import LayoutError

MIN_RUN = 256
"""Pages in the shortest run that is taken out of the file: makedumpfile's PFN_EXCLUDED."""

MAX_LOADS = 1 << 13
"""Most PT_LOADs with ``MIN_RUN``; if there would be more, only longer runs are taken out."""


def leave_out(
    layout: VmcoreLayout,
    left_out: Ranges,
    *,
    keep_headers: bool = False,
    spare: int = 0,
    every: bool = False,
) -> VmcoreLayout:
    """Take pages out of a vmcore.

    ::

        layout    |head|notes|aaaaaaaa------bbb|cc-c|     two PT_LOADs; - is left out
        result    |head|notes|aaaaaaaa|bbb|cc-c|          three, with a hole in the last

    Args:
        layout: A vmcore with all of its memory, in either layout.
        left_out: Physical addresses of what is left out, whole pages, a normal set. Not pages of
            zeros, which tools must be able to read: those belong into the file, as holes.
        keep_headers: Give each run that is taken out a PT_LOAD with a ``p_filesz`` of 0.
        spare: Bytes to leave free for more program headers, whole pages.
        every: Take every run out, however short: none is to read as zeros. Headers that are kept
            then have no virtual address, as gdb has zeros where a PT_LOAD has no bytes.

    Returns:
        The vmcore without them. Its ``windows`` still show the runs that were too short to be taken
        out: what of ``left_out`` is in them is for the caller to leave empty. A PT_LOAD of which
        nothing stays is gone, unless it keeps a header.

    Raises:
        LayoutError: if ``every`` takes more than ``MAX_LOADS``.
    """
    runs = _in_file(layout, left_out)
    if every:
        if len(runs) > MAX_LOADS:
            raise LayoutError(
                f"{len(runs)} runs of pages are left out, more than the {MAX_LOADS} for which an"
                " ELF file has program headers; a kdump file takes any number"
            )
        return _cut(layout, runs, keep_headers=keep_headers, spare=spare, mapped=False)
    least = MIN_RUN * layout.page_size
    while True:
        cuts = runs[runs[:, 1] - runs[:, 0] >= least]
        if len(cuts) <= MAX_LOADS:
            return _cut(layout, cuts, keep_headers=keep_headers, spare=spare)
        least *= 2


def _in_file(layout: VmcoreLayout, left_out: Ranges) -> Ranges:
    """Where in the file each run of pages is, in order; runs of two windows are not joined."""
    windows = layout.windows
    window, row = pair_overlaps(windows.start, windows.end, left_out[:, 0], left_out[:, 1])
    shift = (windows.to - windows.start)[window]
    low = np.maximum(left_out[row, 0], windows.start[window]) + shift
    high = np.minimum(left_out[row, 1], windows.end[window]) + shift
    return np.stack((low, high), axis=1)


def _cut(
    layout: VmcoreLayout, cuts: Ranges, *, keep_headers: bool, spare: int, mapped: bool = True
) -> VmcoreLayout:
    """Take ranges of the file out of it; they are sorted and do not overlap, but may touch."""
    is_load = layout.phdrs["p_type"] == PT_LOAD
    loads = layout.phdrs[is_load]
    start = loads["p_offset"].astype(np.int64)
    end = start + loads["p_filesz"].astype(np.int64)
    pieces = _split(start, end, cuts)
    taken = _taken(start, end, cuts if keep_headers else cuts[:0])
    phnum = len(layout.phdrs) - len(loads) + len(pieces.row) + len(taken.row)
    head_size = align_up(headers_size(layout.header, phnum), layout.page_size) + spare
    grown = head_size - len(layout.head)
    gone = np.concatenate(([0], np.cumsum(cuts[:, 1] - cuts[:, 0])))

    def moved(offset: Int64Array) -> Int64Array:
        """Where ``offset`` moves to; for what is cut, where it would have been."""
        behind = np.searchsorted(cuts[:, 0], offset, side="right")
        ends = np.concatenate(([0], cuts[:, 1]))[behind]
        return np.maximum(offset, ends) - gone[behind] + grown

    notes = layout.phdrs[~is_load].copy()
    notes["p_offset"] += np.uint64(grown)
    to = moved(pieces.start)
    stored = _load_phdrs(loads, pieces, to)
    size = int(layout.size - gone[-1]) + grown
    empty = _load_phdrs(loads, taken, np.full(len(taken.row), size))
    empty["p_filesz"] = 0
    if not mapped:
        empty["p_vaddr"] = 0
    order = np.lexsort((np.r_[pieces.start, taken.start], np.r_[pieces.row, taken.row]))
    phdrs = np.concatenate((notes, np.concatenate((stored, empty))[order]))
    windows = layout.windows
    shown = _split(windows.to, windows.to + windows.size, cuts)
    return replace(
        layout,
        phdrs=phdrs,
        head=pack_headers(layout.header, phdrs, size=head_size),
        notes=layout.notes + grown,
        windows=Windows(
            windows.start[shown.row] + shown.start - windows.to[shown.row],
            shown.end - shown.start,
            moved(shown.start),
        ),
        moved=layout.moved[shown.row],
        loads=normalise(np.stack((to, to + pieces.end - pieces.start), axis=1)),
        size=size,
    )


class _Pieces(msgspec.Struct, frozen=True, eq=False):
    """What remains of ranges of the file after cuts, in order.

    Attributes:
        row: The range that each piece comes from, shape ``(n,)``, int64.
        start: Where it starts in the file before the cuts, shape ``(n,)``, int64.
        end: One past its last byte, shape ``(n,)``, int64.
    """

    row: Int64Array
    start: Int64Array
    end: Int64Array


def _split(start: Int64Array, end: Int64Array, cuts: Ranges) -> _Pieces:
    """Take cuts out of ranges of the file; a range that was already empty is kept."""
    empty = start == end
    row, cut = pair_overlaps(start, end, cuts[:, 0], cuts[:, 1])
    row, cut = row[~empty[row]], cut[~empty[row]]
    every = np.arange(len(start), dtype=np.int64)
    # a piece begins with its range or after a cut, and ends where the next cut begins
    first = np.argsort(np.concatenate((every, row)), kind="stable")
    last = np.argsort(np.concatenate((row, every)), kind="stable")
    rows = np.concatenate((every, row))[first]
    begin = np.concatenate((start, cuts[cut, 1]))[first]
    stop = np.concatenate((cuts[cut, 0], end))[last]
    stays = (begin < stop) | empty[rows]
    return _Pieces(rows[stays], begin[stays], stop[stays])


def _taken(start: Int64Array, end: Int64Array, cuts: Ranges) -> _Pieces:
    """What is cut out of ranges of the file."""
    row, cut = pair_overlaps(start, end, cuts[:, 0], cuts[:, 1])
    return _Pieces(row, np.maximum(start[row], cuts[cut, 0]), np.minimum(end[row], cuts[cut, 1]))


def _load_phdrs(loads: PhdrTable, pieces: _Pieces, offset: Int64Array) -> PhdrTable:
    """The program headers of pieces of PT_LOADs that are now at ``offset``."""
    phdrs = loads[pieces.row].copy()
    inside = (pieces.start - loads["p_offset"].astype(np.int64)[pieces.row]).astype(np.uint64)
    size = (pieces.end - pieces.start).astype(np.uint64)
    nowhere = (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
    paddr, vaddr = phdrs["p_paddr"], phdrs["p_vaddr"]
    paddr += np.where(np.isin(paddr, nowhere), 0, inside).astype(np.uint64)
    vaddr += np.where(np.isin(vaddr, (0, *nowhere)), 0, inside).astype(np.uint64)
    phdrs["p_offset"] = offset
    # a p_memsz that is not p_filesz marks an alias for tools (core/layouts/universal)
    phdrs["p_memsz"] = size + (loads["p_memsz"] - loads["p_filesz"])[pieces.row]
    phdrs["p_filesz"] = size
    return phdrs
