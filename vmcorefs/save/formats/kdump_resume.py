"""How far an earlier try got with a kdump-compressed file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.formats.kdump.descriptors import COMPRESSED, DESC_SIZE, DescArray, desc_dtype
from vmcorefs.core.formats.kdump.headers import (
    MAX_SUB_HEADER_SIZE,
    parse_main_header,
    parse_sub_header,
)
from vmcorefs.core.formats.kdump.plan import Part
from vmcorefs.core.formats.magics import KDUMP
from vmcorefs.core.pages.dump_level import KindArray, PageKind
from vmcorefs.errors import FormatError
from vmcorefs.save.formats.kdump_compare import Resumable, cannot_resume
from vmcorefs.save.formats.kdump_plan import bitmaps
from vmcorefs.save.origin import Origin, parse_origin
from vmcorefs.save.survey import Survey
from vmcorefs.save.written import Counts, no_counts

STEP_BACK = 64 << 20
"""Bytes of memory that are written once more: a machine that went down may have kept a descriptor
and lost the page, which was on its way to the disk at the same time."""

ORIGIN = 512
"""Where an incomplete file says which bytes it is made of (``save.origin``): between the main
header and the end of its block, which readers pass over."""


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


def find_done(
    output: Resumable, survey: Survey, part: Part, count_same: Callable[[Origin, int], int]
) -> Done | None:
    """Find out how far an earlier try got.

    Only a file with the same headers, but for its time and whether it is complete, and the same
    bitmaps is one of the same dump. Of it counts what was written in one go from the first page on,
    up to a page that was lost: that one may be readable now.

    Args:
        output: Where it is.
        survey: Which pages are kept now.
        part: The file that is wanted.
        count_same: Says of how many of the first pages it is sure that they are the image's, given
            what the file says that it is made of, and how many pages it has.

    Returns:
        What is there; None if nothing is that could be lost.

    Raises:
        ConfigError: if it is another dump, which may be all that is left of its machine; the
            message says what differs.
        OutputError: if it cannot be read.
    """
    front = output.pread(part.where.ram, 0)
    _refuse_other(front, part)
    if output.present < part.data + part.main.block_size:
        return None
    if not _same_bitmaps(output, survey, part):
        raise cannot_resume("it is a dump of the same machine, but of other pages")
    back = STEP_BACK // part.main.block_size
    pages = max(sum(len(rows) for rows, _kinds in _good_rows(output, survey, part)) - back, 0)
    block = part.main.block_size
    if pages:
        pages = count_same(parse_origin(front[ORIGIN:block]), pages)
    left, end, zero_kinds = pages, part.data + block, no_counts()
    for rows, kinds in _good_rows(output, survey, part):
        mine = rows[:left]
        zero = mine["offset"] == part.data
        end += int(mine["size"][~zero].sum())
        zero_kinds += np.bincount(kinds[:left][zero], minlength=len(PageKind))
        left -= len(mine)
    return Done(pages, end, zero_kinds)


def _refuse_other(found: bytes, part: Part) -> None:
    """Raise if ``found``, what stands where the front of ``part`` goes, is of another dump."""
    wanted = part.front(incomplete=True)
    if len(found) < len(wanted) and KDUMP.startswith(found[: len(KDUMP)]):
        return
    try:
        main = parse_main_header(found)
        block = main.block_size
        sub = parse_sub_header(main, found[block : block + MAX_SUB_HEADER_SIZE])
    except FormatError:
        raise cannot_resume("it is no kdump-compressed dump") from None
    theirs, ours = ((one.split, one.start_pfn_64, one.end_pfn_64) for one in (sub, part.sub))
    level, pages = part.sub.dump_level, part.main.block_size
    codecs = (main.status ^ part.main.status) & COMPRESSED
    same = replace(main, abi=part.main.abi, tv_sec=part.main.tv_sec, status=part.main.status)
    # the notes hold VMCOREINFO, and so the time of the crash, and the CPUs' registers
    other = same != part.main or found[block:] != wanted[block:]
    differences = (
        (block != pages, f"its pages have {block} bytes, and not {pages}"),
        (codecs, "its pages are compressed by another codec"),
        (sub.dump_level != level, f"its dump level is {sub.dump_level}, and not {level}"),
        (theirs != ours, "it is another part of a split dump"),
        (other, "it is of another machine or another crash"),
    )
    for differs, words in differences:
        if differs:
            raise cannot_resume(words)


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
