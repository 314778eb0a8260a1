"""``vmcore`` at a dump level: which pages it is without."""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.elf.elf import PT_LOAD
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.pages.dump_level import PageKind, left_out
from vmcorefs.core.space.extents import Extents, Kind, make_extents, overlay
from vmcorefs.core.space.ranges import Ranges, normalise, pages_touched, round_in, true_runs
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.errors import ConfigError
from vmcorefs.image import MemoryImage

_PAGES_AT_ONCE = 1 << 18


class Filter(msgspec.Struct, frozen=True, eq=False):
    """What a dump level leaves out of a vmcore.

    Attributes:
        level: The dump level.
        excluded: Physical addresses of the pages that it leaves out, whole pages, a normal set.
        counts: How many pages of RAM are of each ``PageKind`` but ``ZERO``: those count as what
            they were used for.
        warnings: What cannot be told, and what becomes of it; a line each.
    """

    level: int
    excluded: Ranges
    counts: dict[PageKind, int]
    warnings: tuple[str, ...]

    def apply(self, memory: Extents) -> Extents:
        """Physical memory with nothing in what is left out."""
        return overlay(memory, make_extents(self.excluded, kind=Kind.EXCLUDED))


def find_filter(image: MemoryImage, level: int) -> Filter:
    """Find which pages a dump level leaves out.

    Pages of zeros (bit 1) are none of them: to look at all memory would take as long as copying it,
    and those that are known to be zeros without a look are holes of the file at every level.

    Raises:
        ConfigError: if there is no such level.
        FormatError: if what pages were used for cannot be told.
        SourceIOError: if an input cannot be read.
    """
    try:
        unwanted = left_out(level)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    kinds = image.pages
    size = kinds.page_size
    counts = np.zeros(len(PageKind), dtype=np.int64)
    found = []
    for start, end in pages_touched(image.plan.elfcorehdr.ram, size).tolist():
        for first in range(start, end, _PAGES_AT_ONCE):
            kind = kinds.of(first, min(_PAGES_AT_ONCE, end - first))
            counts += np.bincount(kind, minlength=len(PageKind))
            found.append((first + true_runs(unwanted[kind])) * size)
    told = dict(zip(PageKind, counts.tolist(), strict=True))
    excluded = normalise(np.concatenate((_excluded_before(image, size), *found)))
    return Filter(level, excluded, told, kinds.unknown)


def find_left_out(image: MemoryImage) -> Filter | None:
    """What an image that is a dump is without, if anything; no dump level is asked for."""
    vmcoreinfo = image.notes.vmcoreinfo
    excluded = _excluded_before(image, vmcoreinfo.page_size if vmcoreinfo else PAGE_SIZE)
    return Filter(0, excluded, {}, ()) if len(excluded) else None


def _excluded_before(image: MemoryImage, page_size: int) -> Ranges:
    """Whole pages that the image, a dump, is without."""
    return round_in(image.memory.only(Kind.EXCLUDED).ranges, page_size)


def by_address(elfcorehdr: Elfcorehdr) -> Elfcorehdr:
    """The same headers for memory that is read where it belongs, not through the backup region."""
    phdrs = elfcorehdr.phdrs.copy()
    loads = phdrs["p_type"] == PT_LOAD
    phdrs["p_offset"][loads] = phdrs["p_paddr"][loads]
    return replace(elfcorehdr, phdrs=phdrs)
