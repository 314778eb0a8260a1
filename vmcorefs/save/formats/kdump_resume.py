"""How far an earlier try got with a kdump-compressed file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, DescArray, Flag, desc_dtype
from vmcorefs.core.formats.kdump.headers import pack_main_header, parse_main_header
from vmcorefs.core.pages.dump_level import KindArray, PageKind
from vmcorefs.errors import FormatError
from vmcorefs.save.dump import Output
from vmcorefs.save.formats.kdump_plan import Part, bitmaps
from vmcorefs.save.formats.resume import other_pages
from vmcorefs.save.survey import Survey
from vmcorefs.save.written import Counts, no_counts

STEP_BACK = 64 << 20
"""Bytes of memory that are written once more: a machine that went down may have kept a descriptor
and lost the page, which was on its way to the disk at the same time."""


@runtime_checkable
class Resumable(Output, Protocol):
    """An output that an earlier try may have left something in."""

    @property
    def present(self) -> int:
        """Bytes that are there."""

    def pread(self, size: int, offset: int) -> bytes:
        """What is there; fewer bytes at the end.

        Raises:
            OutputError: if it cannot be read.
        """

    def truncate(self, size: int) -> None:
        """Throw away what is behind ``size`` bytes.

        Raises:
            OutputError: if that fails.
        """


class Done(msgspec.Struct, frozen=True):
    """What an earlier try did that need not be done again.

    Attributes:
        pages: How many of the first pages are there.
        end: Where the data of the next one goes.
        zero_kinds: Those of them that are zero, by what they were used for.
    """

    pages: int
    end: int
    zero_kinds: Counts


def find_done(output: Resumable, survey: Survey, part: Part) -> Done | None:
    """Find out how far an earlier try got.

    Only a file with the same headers, but for its time and whether it is complete, and the same
    bitmaps is one of the same dump. Of it counts what was written in one go from the first page on,
    up to a page that was lost: that one may be readable now.

    Returns:
        What is there; None if nothing is, or something else.

    Raises:
        ConfigError: if it is a dump of other pages.
        OutputError: if it cannot be read.
    """
    if output.present < part.data + part.main.block_size:
        return None
    if not _same_front(output, part):
        return None
    if not _same_bitmaps(output, survey, part):
        raise other_pages()
    back = STEP_BACK // part.main.block_size
    pages = max(sum(len(rows) for rows, _kinds in _good_rows(output, survey, part)) - back, 0)
    block = part.main.block_size
    left, end, zero_kinds = pages, part.data + block, no_counts()
    for rows, kinds in _good_rows(output, survey, part):
        mine = rows[:left]
        zero = mine["offset"] == part.data
        end += int(mine["size"][~zero].sum())
        zero_kinds += np.bincount(kinds[:left][zero], minlength=len(PageKind))
        left -= len(mine)
    return Done(pages, end, zero_kinds)


def _same_front(output: Resumable, part: Part) -> bool:
    wanted = part.front(incomplete=True)
    found = output.pread(len(wanted), 0)
    try:
        theirs = parse_main_header(found)
    except FormatError:
        return False
    status = theirs.status | Flag.INCOMPLETE
    ours = replace(part.main, tv_sec=theirs.tv_sec, status=part.main.status | Flag.INCOMPLETE)
    size = len(pack_main_header(ours))
    return pack_main_header(replace(theirs, status=status)) == pack_main_header(ours) and (
        found[size:] == wanted[size:]
    )


def _same_bitmaps(output: Resumable, survey: Survey, part: Part) -> bool:
    at = part.where.ram
    for piece in bitmaps(survey, part):
        if output.pread(len(piece), at) != piece:
            return False
        at += len(piece)
    return True


def _good_rows(
    output: Resumable, survey: Survey, part: Part
) -> Iterator[tuple[DescArray, KindArray]]:
    """The descriptors of the pages that are there, and the kinds of these, a window at a time.

    Each page begins where the one before ends, and zero pages are the one in front of all.
    """
    block, dtype = part.main.block_size, desc_dtype(part.main.abi.byte_order)
    at, end = part.where.descriptors, part.data + block
    for window in survey.windows(part.first, part.end):
        kinds = window.kinds[window.kept]
        if not len(kinds):
            continue
        rows = np.frombuffer(output.pread(DESC_SIZE * len(kinds), at), dtype=dtype)
        zero = rows["offset"] == part.data
        sizes = np.where(zero, 0, rows["size"]).astype(np.int64)
        ends = end + np.cumsum(sizes)
        good = zero | (rows["offset"] == ends - sizes)
        good &= (zero | (sizes > 0)) & (sizes <= block) & (ends <= output.present)
        count = len(rows) if good.all() else int(np.argmin(good))
        yield rows[:count], kinds[:count]
        if count < len(kinds):
            return
        at += DESC_SIZE * len(kinds)
        end = int(ends[-1])
