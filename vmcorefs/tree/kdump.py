"""``vmcore.kdump``: a mounted dump level as the kdump-compressed file that ``save`` would write.

Its pages are not compressed: so the size is known, and every byte of it, without reading memory.
Pages of zeros are stored too, as holes where the image has holes. Bitmaps and descriptors, 24 bytes
for each page, are worked out when they are read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, desc_dtype, pack_bits
from vmcorefs.core.formats.kdump.plan import Part, plan_file
from vmcorefs.core.space.extents import Kind, Windows, fill, make_extents, merge, project
from vmcorefs.core.space.ranges import (
    Ranges,
    make_ranges,
    mark,
    pages_touched,
    subtract,
    total_size,
)
from vmcorefs.core.space.units import align_up
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.facts import find_facts
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.sources.base import BytesSource, Source, WithoutHoles, check_bounds
from vmcorefs.tree.file import TreeFile, complete
from vmcorefs.tree.filtered import Filter

PATH = "vmcore.kdump"


def kdump_file(
    image: MemoryImage, notes: TreeFile, filtered: Filter, faults: frozenset[Kind] = DEFAULT_FAULTS
) -> TreeFile:
    """The file; it is made when it is first asked for.

    Args:
        image: The dead machine.
        notes: ``crash_notes``.
        filtered: What the dump level leaves out.
        faults: Kinds that are an error to read.
    """
    return TreeFile(PATH, lambda: _make(image, notes, filtered, faults))


def _make(image: MemoryImage, notes: TreeFile, filtered: Filter, faults: frozenset[Kind]) -> Reader:
    elfcorehdr, page = image.plan.elfcorehdr, image.page_size
    ram = pages_touched(elfcorehdr.ram, page)
    kept = subtract(ram, filtered.excluded // page)
    part = plan_file(
        find_facts(
            Reader("memory", image.memory, image.sources),
            elfcorehdr,
            image.notes.vmcoreinfo,
            image.kdump,
        ),
        notes.pread(notes.size, 0),
        page_size=page,
        ram=ram,
        pages=total_size(kept),
        level=filtered.level,
    )
    data = align_up(part.data, page)  # so that pages can be mapped
    made = _made(part, ram, kept, data)
    sources = (*image.sources, *made)
    first = len(image.sources)
    begins = (0, part.where.ram, part.where.stored, part.where.descriptors)
    pieces = [
        make_extents(
            make_ranges([(start, start + source.size)]), kind=Kind.DATA, source=first + number
        )
        for number, (start, source) in enumerate(zip(begins, made, strict=True))
        if source.size
    ]
    sizes = (kept[:, 1] - kept[:, 0]) * page
    windows = Windows(kept[:, 0] * page, sizes, data + np.cumsum(sizes) - sizes)
    # what is left over, such as what a page at the edge of RAM has beside it, is no RAM: a hole
    held = fill(image.memory, elfcorehdr.ram, Kind.MISSING)
    table = merge(*pieces, project(held, windows))
    return Reader(PATH, complete(table, data + part.pages * page, Kind.HOLE), sources, faults)


def _made(part: Part, ram: Ranges, kept: Ranges, data: int) -> tuple[Source, ...]:
    """What is in front of the pages, which begin at ``data``; part by part."""
    size = part.where.bitmap_size
    descriptors = _descriptors(data, part.main.block_size, part.main.abi.byte_order)
    return (
        BytesSource("kdump headers", part.front(incomplete=False)),
        _Computed("kdump bitmap of RAM", size, lambda at, size: _bits(ram, at, size)),
        _Computed("kdump bitmap", size, lambda at, size: _bits(kept, at, size)),
        _Computed("kdump descriptors", DESC_SIZE * part.pages, descriptors),
    )


def _bits(pages: Ranges, start: int, size: int) -> bytes:
    """Bytes ``[start, start + size)`` of the bitmap of some pages."""
    return pack_bits(mark(pages, start * 8, size * 8))


def _descriptors(data: int, page_size: int, byte_order: ByteOrder) -> Callable[[int, int], bytes]:
    """Descriptors of pages that stand one behind the other from ``data`` on."""

    def make(start: int, size: int) -> bytes:
        first, last = start // DESC_SIZE, -(-(start + size) // DESC_SIZE)
        rows = np.zeros(last - first, dtype=desc_dtype(byte_order))
        rows["offset"] = data + page_size * np.arange(first, last, dtype=np.int64)
        rows["size"] = page_size
        skipped = start - first * DESC_SIZE
        return rows.tobytes()[skipped : skipped + size]

    return make


class _Computed(WithoutHoles):
    """Bytes that are worked out when they are read."""

    role = "made"

    def __init__(self, name: str, size: int, make: Callable[[int, int], bytes]) -> None:
        self.name = self.origin = name
        self.size = size
        self._make = make

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """See ``Source.pread_into``."""
        check_bounds(self, offset, len(buffer))
        buffer[:] = self._make(offset, len(buffer))

    def close(self) -> None:
        """See ``Source.close``."""
