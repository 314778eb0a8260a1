"""``vmcore`` at a dump level: which pages it is without."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vmcorefs.core.dump_level import PageKind, left_out
from vmcorefs.core.elf import PT_LOAD
from vmcorefs.core.elfcorehdr import Elfcorehdr
from vmcorefs.core.extents import Extents, Kind, make_extents, overlay
from vmcorefs.core.filtered_layout import MIN_RUN
from vmcorefs.core.ranges import Ranges, normalise, subtract
from vmcorefs.core.units import PAGE_SIZE
from vmcorefs.errors import ConfigError
from vmcorefs.image import MemoryImage, find_page_kinds
from vmcorefs.reader import Reader

_PAGES_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """What a dump level leaves out of a vmcore.

    Attributes:
        level: The dump level.
        excluded: Physical addresses of pages that it leaves out for what they were used for, whole
            pages, a normal set.
        zeros: Of pages that it leaves out as they are known to be zeros, likewise.
        counts: How many pages of RAM are of each ``PageKind``; zeros count as what they were used
            for.
        warnings: What cannot be told, and what becomes of it; a line each.
    """

    level: int
    excluded: Ranges
    zeros: Ranges
    counts: dict[PageKind, int]
    warnings: tuple[str, ...]

    @property
    def left_out(self) -> Ranges:
        """Physical addresses of all that the file need not have, a normal set."""
        return normalise(np.concatenate((self.excluded, self.zeros)))

    def apply(self, memory: Extents) -> Extents:
        """Physical memory with nothing in what is left out."""
        memory = overlay(memory, make_extents(self.zeros, kind=Kind.ZERO))
        return overlay(memory, make_extents(self.excluded, kind=Kind.EXCLUDED))


def find_filter(image: MemoryImage, level: int) -> Filter:
    """Find which pages a dump level leaves out.

    Pages of zeros are those that are known to be without reading them: holes of the image, and what
    is said to be zeros. To look at all memory would take as long as copying it.

    Raises:
        ConfigError: if there is no such level.
        FormatError: if what pages were used for cannot be told.
        SourceIOError: if an input cannot be read.
    """
    try:
        unwanted = left_out(level)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    kinds = find_page_kinds(image)
    ram, size = _whole_pages(image.plan.elfcorehdr.ram, kinds.page_size), kinds.page_size
    counts = np.zeros(len(PageKind), dtype=np.int64)
    found = []
    for start, end in (ram // size).tolist():
        for first in range(start, end, _PAGES_AT_ONCE):
            kind = kinds.of(first, min(_PAGES_AT_ONCE, end - first))
            counts += np.bincount(kind, minlength=len(PageKind))
            edges = np.diff(np.concatenate(([False], unwanted[kind], [False])).astype(np.int8))
            found.append((first + np.flatnonzero(edges).reshape(-1, 2)) * size)
    excluded = normalise(np.concatenate((_excluded_before(image, size), *found)))
    zeros = excluded[:0]
    if unwanted[PageKind.ZERO]:
        zeros = _known_zeros(image, subtract(ram, excluded), size)
    told = dict(zip(PageKind, counts.tolist(), strict=True))
    return Filter(level, excluded, zeros, told, kinds.unknown)


def find_left_out(image: MemoryImage) -> Filter | None:
    """What an image that is a dump is without, if anything; no dump level is asked for."""
    vmcoreinfo = image.notes.vmcoreinfo
    excluded = _excluded_before(image, vmcoreinfo.page_size if vmcoreinfo else PAGE_SIZE)
    return Filter(0, excluded, excluded[:0], {}, ()) if len(excluded) else None


def _excluded_before(image: MemoryImage, page_size: int) -> Ranges:
    """Whole pages that the image, a dump, is without."""
    ranges = image.memory.only(Kind.EXCLUDED).ranges
    inner = np.stack((-(-ranges[:, 0] // page_size), ranges[:, 1] // page_size), axis=1)
    return normalise(inner * page_size)


def by_address(elfcorehdr: Elfcorehdr) -> Elfcorehdr:
    """The same headers for memory that is read where it belongs, not through the backup region."""
    phdrs = elfcorehdr.phdrs.copy()
    loads = phdrs["p_type"] == PT_LOAD
    phdrs["p_offset"][loads] = phdrs["p_paddr"][loads]
    return replace(elfcorehdr, phdrs=phdrs)


def _known_zeros(image: MemoryImage, where: Ranges, page_size: int) -> Ranges:
    """Whole pages of ``where`` that are zeros, as far as that is known without reading them."""
    memory = Reader("memory", image.memory, image.sources)
    lost = memory.table.only(*memory.faults).ranges
    stored = memory.data_ranges(where, MIN_RUN * page_size)
    zeros = subtract(subtract(where, stored), lost)
    # what the table does not speak of is missing, and must stay so
    zeros = subtract(zeros, subtract(where, memory.table.ranges))
    inner = np.stack((-(-zeros[:, 0] // page_size), zeros[:, 1] // page_size), axis=1) * page_size
    return normalise(inner)


def _whole_pages(ram: Ranges, page_size: int) -> Ranges:
    """The pages that any byte of RAM is in."""
    first, last = ram[:, 0] // page_size, -(-ram[:, 1] // page_size)
    return normalise(np.stack((first, last), axis=1) * page_size)
