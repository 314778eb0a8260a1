"""Where everything goes in a kdump-compressed file, and all of it but the pages."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, Flag, Places, pack_bits, places
from vmcorefs.core.formats.kdump.filled_headers import make_headers, pack_front
from vmcorefs.core.formats.kdump.headers import U32_MAX, MainHeader, SubHeader
from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.kernel.facts import find_phys_base, read_utsname
from vmcorefs.save.codecs import Codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.survey import Survey, mark, window_starts

_EM_ARM = 40
_STEP = 64  # crash counts stored pages of a split file 64 at a time (diskdump.c, read_dump_header)
_ZEROS = bytes(1 << 20)


class Part(msgspec.Struct, frozen=True):
    """One file of a dump: all of it, or the pages of a range.

    Attributes:
        main: The main header.
        sub: The sub header.
        notes: The notes behind it.
        where: Where the bitmaps and descriptors are.
        first: The first page frame number that may have a page here.
        end: The first that has not.
        pages: Pages that are stored here.
    """

    main: MainHeader
    sub: SubHeader
    notes: bytes
    where: Places
    first: int
    end: int
    pages: int

    @property
    def data(self) -> int:
        """Where the pages begin, in bytes."""
        return self.where.descriptors + DESC_SIZE * self.pages

    def front(self, *, incomplete: bool) -> bytes:
        """Everything in front of the bitmaps."""
        status = self.main.status | (Flag.INCOMPLETE if incomplete else 0)
        return pack_front(replace(self.main, status=status), self.sub, self.notes)


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
    if dump.elfcorehdr.header.e_machine == _EM_ARM:
        raise UnsupportedError("kdump-compressed dumps of 32-bit ARM cannot be written; ELF can")
    notes = dump.notes
    main, sub = make_headers(
        dump.elfcorehdr,
        notes,
        dump.vmcoreinfo,
        utsname=read_utsname(dump.memory, dump.elfcorehdr, dump.vmcoreinfo),
        phys_base=find_phys_base(dump.elfcorehdr, dump.vmcoreinfo),
        block_size=dump.kinds.page_size,
        max_mapnr=survey.max_mapnr,
    )
    main, sub = replace(main, status=codec.flag), replace(sub, dump_level=dump.level)
    where = places(main, survey.max_mapnr)
    if count == 1:
        return [Part(main, sub, notes, where, 0, survey.max_mapnr, survey.pages)]
    parts = []
    for first, end in _split(survey, count):
        pages = sum(int(np.count_nonzero(window.kept)) for window in survey.windows(first, end))
        fields = {"split": 1, "start_pfn_64": first, "end_pfn_64": end}
        fields |= {"start_pfn": min(first, U32_MAX), "end_pfn": min(end, U32_MAX)}
        parts.append(Part(main, replace(sub, **fields), notes, where, first, end, pages))
    return parts


def bitmaps(survey: Survey, part: Part) -> Iterator[bytes]:
    """Both bitmaps of a part, in pieces: of the whole machine, also in a part of a dump.

    ``makedumpfile --reassemble`` takes them from the first part (``reassemble_kdump_header``).
    """
    size, ram = part.where.bitmap_size, survey.ram
    yield from _whole(((first, pack_bits(mark(ram, first))) for first in window_starts(ram)), size)
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
