"""A vmcore without the pages that a dump level leaves out: the ELF file of ``makedumpfile -E``.

Where a long run of pages is left out, the file does not have it, and its PT_LOAD is divided there
(makedumpfile.c, ``write_elf_pages_cyclic``). The run has a PT_LOAD of its own, of ``p_memsz`` bytes
and a ``p_filesz`` of 0, so that tools know of it, and read it as zeros; makedumpfile tells of it by
the ``p_memsz`` of the piece before, which volatility3 and LeechCore then would pass over. Shorter
runs stay in the file as holes, for each PT_LOAD costs a tool time with every address that it looks
up: crash and makedumpfile go through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf import PT_LOAD, PhdrTable, headers_size, pack_headers
from vmcorefs.core.extents import Windows
from vmcorefs.core.layout import VmcoreLayout
from vmcorefs.core.ranges import Int64Array, Ranges, normalise, pair_overlaps
from vmcorefs.core.units import align_up

MIN_RUN = 256
"""Pages in the shortest run that the file does not have: makedumpfile's PFN_EXCLUDED."""

MAX_LOADS = 1 << 13
"""PT_LOADs up to which ``MIN_RUN`` counts; if there were more, only longer runs are taken out."""


def leave_out(layout: VmcoreLayout, left_out: Ranges) -> VmcoreLayout:
    """Take pages out of a vmcore.

    ::

        layout    |head|notes|aaaaaaaa------bbb|cc-c|     two PT_LOADs; - is left out
        result    |head|notes|aaaaaaaa|bbb|cc-c|          four, one empty; a hole in the last

    Args:
        layout: A vmcore with all of its memory, of either kind.
        left_out: Physical addresses of what is left out, whole pages, a normal set.

    Returns:
        The vmcore without them. Its ``windows`` still show the runs that were too short to be taken
        out: what of ``left_out`` is in them is for the caller to leave empty. Every ``p_memsz``,
        ``p_paddr`` and ``p_vaddr`` of ``layout`` is still told, in more pieces.
    """
    runs = _in_file(layout, left_out)
    least = MIN_RUN * layout.page_size
    while True:
        cuts = runs[runs[:, 1] - runs[:, 0] >= least]
        if len(cuts) <= MAX_LOADS:
            return _cut(layout, cuts)
        least *= 2


def _in_file(layout: VmcoreLayout, left_out: Ranges) -> Ranges:
    """Where in the file each run of pages stands, in order; runs of two windows are not joined."""
    windows = layout.windows
    end = windows.start + windows.size
    window, row = pair_overlaps(windows.start, end, left_out[:, 0], left_out[:, 1])
    shift = (windows.to - windows.start)[window]
    low = np.maximum(left_out[row, 0], windows.start[window]) + shift
    high = np.minimum(left_out[row, 1], end[window]) + shift
    return np.stack((low, high), axis=1)


def _cut(layout: VmcoreLayout, cuts: Ranges) -> VmcoreLayout:
    """Take ranges of the file out of it; they are sorted and do not overlap, but may touch."""
    is_load = layout.phdrs["p_type"] == PT_LOAD
    loads = layout.phdrs[is_load]
    start = loads["p_offset"].astype(np.int64)
    pieces = _split(start, start + loads["p_filesz"].astype(np.int64), cuts)
    phnum = len(layout.phdrs) - len(loads) + len(pieces.row)
    head_size = align_up(headers_size(layout.header, phnum), layout.page_size)
    grown = head_size - len(layout.head)
    gone = np.concatenate(([0], np.cumsum(cuts[:, 1] - cuts[:, 0])))

    def moved(offset: Int64Array) -> Int64Array:
        """Where in the result what stands at ``offset`` is, or what is cut there would be."""
        behind = np.searchsorted(cuts[:, 0], offset, side="right")
        ends = np.concatenate(([0], cuts[:, 1]))[behind]
        return np.maximum(offset, ends) - gone[behind] + grown

    notes = layout.phdrs[~is_load].copy()
    notes["p_offset"] += np.uint64(grown)
    phdrs = np.concatenate((notes, _load_phdrs(loads, pieces, moved(pieces.start))))
    windows = layout.windows
    shown = _split(windows.to, windows.to + windows.size, cuts).stored()
    paddr = windows.start[shown.row] + shown.start - windows.to[shown.row]
    own = pieces.stored()
    to = moved(own.start)
    return replace(
        layout,
        phdrs=phdrs,
        head=pack_headers(layout.header, phdrs).ljust(head_size, b"\0"),
        notes=layout.notes + grown,
        windows=Windows(paddr, shown.end - shown.start, moved(shown.start)),
        moved=layout.moved[shown.row],
        loads=normalise(np.stack((to, to + own.end - own.start), axis=1)),
        size=int(layout.size - gone[-1]) + grown,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Pieces of ranges that were cut, in order.

    Attributes:
        row: Which range each piece is of, shape ``(n,)``, int64.
        start: Where it starts in the file before, shape ``(n,)``, int64.
        end: One past its last byte, shape ``(n,)``, int64.
        is_cut: Whether it is what is taken out, shape ``(n,)``, bool.
    """

    row: Int64Array
    start: Int64Array
    end: Int64Array
    is_cut: npt.NDArray[np.bool_]

    def rows(self, index: npt.NDArray[np.bool_] | Int64Array) -> _Pieces:
        return _Pieces(self.row[index], self.start[index], self.end[index], self.is_cut[index])

    def stored(self) -> _Pieces:
        """The pieces that stay in the file, none empty."""
        return self.rows(~self.is_cut & (self.start < self.end))


def _split(start: Int64Array, end: Int64Array, cuts: Ranges) -> _Pieces:
    """Divide ranges of the file where they are cut; an empty range stays one empty piece."""
    row, cut = pair_overlaps(start, end, cuts[:, 0], cuts[:, 1])
    low = np.maximum(cuts[cut, 0], start[row])
    high = np.minimum(cuts[cut, 1], end[row])
    # what stays begins where its range does, or a cut ends, and ends where the next cut begins
    rows = np.concatenate((np.arange(len(start), dtype=np.int64), row))
    order = np.argsort(rows, kind="stable")
    stops = np.concatenate((row, np.arange(len(start), dtype=np.int64)))
    stop_order = np.argsort(stops, kind="stable")
    kept = _Pieces(
        rows[order],
        np.concatenate((start, high))[order],
        np.concatenate((low, end))[stop_order],
        np.zeros(len(rows), dtype=np.bool_),
    )
    kept = kept.rows((kept.start < kept.end) | (start == end)[kept.row])
    both = _Pieces(
        np.concatenate((kept.row, row)),
        np.concatenate((kept.start, low)),
        np.concatenate((kept.end, high)),
        np.concatenate((kept.is_cut, np.ones(len(row), dtype=np.bool_))),
    )
    return both.rows(np.lexsort((both.start, both.row)))


def _load_phdrs(loads: PhdrTable, pieces: _Pieces, offset: Int64Array) -> PhdrTable:
    """The program headers of pieces of PT_LOADs."""
    phdrs = loads[pieces.row].copy()
    inside = (pieces.start - loads["p_offset"].astype(np.int64)[pieces.row]).astype(np.uint64)
    size = (pieces.end - pieces.start).astype(np.uint64)
    nowhere = (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
    paddr, vaddr = phdrs["p_paddr"], phdrs["p_vaddr"]
    paddr += np.where(np.isin(paddr, nowhere), 0, inside).astype(np.uint64)
    vaddr += np.where(np.isin(vaddr, (0, *nowhere)), 0, inside).astype(np.uint64)
    # where p_memsz was not p_filesz, that tells tools that it is an alias (core/universal_layout)
    extra = (loads["p_memsz"] - loads["p_filesz"])[pieces.row]
    phdrs["p_offset"] = offset
    phdrs["p_filesz"] = np.where(pieces.is_cut, 0, size)
    phdrs["p_memsz"] = size + np.where(pieces.is_cut, 0, extra)
    return phdrs
