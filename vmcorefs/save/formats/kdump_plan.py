"""The files of a kdump-compressed dump, and their bitmaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from vmcorefs.core.elf.machines import EM_ARM
from vmcorefs.core.formats.kdump.descriptors import pack_bits
from vmcorefs.core.formats.kdump.headers import U32_MAX
from vmcorefs.core.formats.kdump.plan import Part, plan_file
from vmcorefs.core.pages.selection import WINDOW, window_starts
from vmcorefs.core.space.ranges import mark
from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.kernel.facts import find_facts
from vmcorefs.save.codecs import Codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.survey import Survey

_STEP = 64  # crash counts stored pages of a split file 64 at a time (diskdump.c, read_dump_header)
_ZEROS = bytes(1 << 20)


def plan_parts(dump: Dump, survey: Survey, codec: Codec, count: int) -> list[Part]:
    """Plan ``count`` files.

    Args:
        dump: What is saved.
        survey: Which of its pages are kept.
        codec: How they are compressed.
        count: How many files there will be.

    Raises:
        ConfigError: if there are more files than can have pages.
        UnsupportedError: on 32-bit ARM, whose page frame numbers crash counts in its own way.
    """
    if dump.elfcorehdr.header.e_machine == EM_ARM:
        raise UnsupportedError("kdump-compressed dumps of 32-bit ARM cannot be written; ELF can")
    whole = plan_file(
        find_facts(dump.memory, dump.elfcorehdr, dump.vmcoreinfo, dump.told),
        dump.notes,
        page_size=dump.kinds.page_size,
        ram=survey.ram,
        pages=survey.pages,
        level=dump.level,
        codec=codec.flag,
    )
    if count == 1:
        return [whole]
    parts = []
    for first, end in _split(survey, count):
        pages = sum(int(np.count_nonzero(window.kept)) for window in survey.windows(first, end))
        fields = {"split": 1, "start_pfn_64": first, "end_pfn_64": end}
        fields |= {"start_pfn": min(first, U32_MAX), "end_pfn": min(end, U32_MAX)}
        sub = replace(whole.sub, **fields)
        parts.append(replace(whole, sub=sub, first=first, end=end, pages=pages))
    return parts


def bitmaps(survey: Survey, part: Part) -> Iterator[bytes]:
    """Both bitmaps of a part, in pieces: of the whole machine, also in a part of a dump.

    ``makedumpfile --reassemble`` takes them from the first part (``reassemble_kdump_header``).
    """
    size, ram = part.where.bitmap_size, survey.ram
    marks = ((first, pack_bits(mark(ram, first, WINDOW))) for first in window_starts(ram))
    yield from _whole(marks, size)
    yield from _whole(((each.first, pack_bits(each.kept)) for each in survey.windows()), size)


def _whole(windows: Iterator[tuple[int, bytes]], size: int) -> Iterator[bytes]:
    """A bitmap of which some windows are given, in order; the others are 0."""
    done = 0
    for first, bits in windows:
        yield from _zeros(first // 8 - done)
        piece = bits[: size - first // 8]
        yield piece
        done = first // 8 + len(piece)
    yield from _zeros(size - done)


def _zeros(size: int) -> Iterator[bytes]:
    for at in range(0, size, len(_ZEROS)):
        yield _ZEROS[: min(len(_ZEROS), size - at)]


def _split(survey: Survey, count: int) -> list[tuple[int, int]]:
    """Ranges of page frame numbers with as many kept pages each."""
    if count > survey.max_mapnr // _STEP:
        raise ConfigError(f"{count} parts of {survey.max_mapnr} pages: that is too many")
    wanted = [survey.pages * number // count for number in range(1, count)]
    edges = [0]
    before = 0
    for window in survey.windows():
        reached = before + np.cumsum(window.kept)
        while len(edges) <= len(wanted) and wanted[len(edges) - 1] <= reached[-1]:
            edge = window.first + int(np.searchsorted(reached, wanted[len(edges) - 1], "left"))
            edges.append(max(edge // _STEP * _STEP, edges[-1]))
        before = int(reached[-1])
    return list(zip(edges, (*edges[1:], survey.max_mapnr), strict=True))
