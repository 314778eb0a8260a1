"""``vmcore`` at a dump level: the pages that it lacks."""

from __future__ import annotations

import msgspec
import numpy as np

from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.pages.selection import Selection, window_starts
from vmcorefs.core.space.extents import Extents, Kind, make_extents, overlay
from vmcorefs.core.space.ranges import Ranges, normalise, round_in, true_runs
from vmcorefs.errors import ConfigError
from vmcorefs.image import MemoryImage


class Filter(msgspec.Struct, frozen=True, eq=False):
    """What a dump level leaves out of a vmcore.

    Attributes:
        level: The dump level.
        excluded: Physical addresses of the pages that it leaves out, whole pages, a normal set.
        counts: How many pages of RAM are of each ``PageKind`` but ``ZERO``: those count as what
            they were used for.
        warnings: What is not known, and how it is handled; a line each.
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

    Pages of zeros (bit 1) are not among them: looking at all memory would take as long as copying
    it, and those that are known to be zeros without a look are holes of the file at every level.

    Raises:
        ConfigError: if there is no such level.
        FormatError: if the use of pages is not known.
        SourceIOError: if an input cannot be read.
    """
    kinds = image.pages
    try:
        selection = Selection(kinds, image.plan.elfcorehdr.ram, level, _lacking(image))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    counts = np.zeros(len(PageKind), dtype=np.int64)
    excluded = [_lacking(image)]
    for first, kind, kept, left_out in map(selection.look, window_starts(selection.ram)):
        counts += np.bincount(kind[kept | left_out], minlength=len(PageKind))
        excluded.append((first + true_runs(left_out)) * kinds.page_size)
    return Filter(
        level=level,
        excluded=normalise(np.concatenate(excluded)),
        counts=dict(zip(PageKind, counts.tolist(), strict=True)),
        warnings=kinds.unknown,
    )


def find_left_out(image: MemoryImage) -> Filter | None:
    """The pages that an image, a dump itself, lacks, if any; without a dump level."""
    lacking = _lacking(image)
    return Filter(0, lacking, {}, ()) if len(lacking) else None


def _lacking(image: MemoryImage) -> Ranges:
    """Whole pages that the image, a dump itself, lacks."""
    return round_in(image.memory.only(Kind.EXCLUDED).ranges, image.page_size)
