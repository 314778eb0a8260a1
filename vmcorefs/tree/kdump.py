"""``vmcore.kdump``: a mounted dump level as the kdump-compressed file that ``save`` would write.

Its pages are not compressed: so the size is known, and every byte of it, without reading memory.
Pages of zeros are stored too, as holes where the image has holes. Bitmaps and descriptors, 24 bytes
for each page, are worked out when they are read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec.structs import replace

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, Places, desc_dtype, pack_bits, places
from vmcorefs.core.formats.kdump.filled_headers import make_headers, pack_front
from vmcorefs.core.space.extents import Kind, Windows, fill, make_extents, merge, project
from vmcorefs.core.space.ranges import Ranges, make_ranges, pages_touched, subtract, total_size
from vmcorefs.core.space.units import PAGE_SIZE, align_up
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.facts import find_phys_base, read_utsname
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
    vmcoreinfo, elfcorehdr = image.notes.vmcoreinfo, image.plan.elfcorehdr
    page = vmcoreinfo.page_size if vmcoreinfo else PAGE_SIZE
    memory = Reader("memory", image.memory, image.sources)
    ram = pages_touched(elfcorehdr.ram, page)
    kept = subtract(ram, filtered.excluded // page)
    max_mapnr = int(ram[-1, 1]) if len(ram) else 0
    text = notes.pread(notes.size, 0)
    main, sub = make_headers(
        elfcorehdr,
        text,
        vmcoreinfo,
        utsname=read_utsname(memory, elfcorehdr, vmcoreinfo),
        phys_base=find_phys_base(elfcorehdr, vmcoreinfo),
        block_size=page,
        max_mapnr=max_mapnr,
    )
    front = pack_front(main, replace(sub, dump_level=filtered.level), text)
    where = places(main, max_mapnr)
    count = total_size(kept)
    data = align_up(where.descriptors + DESC_SIZE * count, page)  # so that pages can be mapped
    made = _made(front, where, ram, kept, _descriptors(data, page, main.abi.byte_order))
    sources = (*image.sources, *made)
    first = len(image.sources)
    begins = (0, where.ram, where.stored, where.descriptors)
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
    return Reader(PATH, complete(table, data + count * page, Kind.HOLE), sources, faults)


def _made(
    front: bytes, where: Places, ram: Ranges, kept: Ranges, descriptors: Callable[[int, int], bytes]
) -> tuple[Source, ...]:
    """What is in front of the pages, part by part."""
    count = total_size(kept)
    return (
        BytesSource("kdump headers", front),
        _Computed("kdump bitmap of RAM", where.bitmap_size, lambda at, size: _bits(ram, at, size)),
        _Computed("kdump bitmap", where.bitmap_size, lambda at, size: _bits(kept, at, size)),
        _Computed("kdump descriptors", DESC_SIZE * count, descriptors),
    )


def _bits(pages: Ranges, start: int, size: int) -> bytes:
    """Bytes ``[start, start + size)`` of the bitmap of some pages."""
    edges = np.clip(pages - start * 8, 0, size * 8)
    steps = np.zeros(size * 8 + 1, dtype=np.int8)
    # rows of a normal set do not touch, but those outside all end up at one edge
    np.add.at(steps, edges[:, 0], 1)
    np.add.at(steps, edges[:, 1], -1)
    return pack_bits(np.cumsum(steps[:-1], dtype=np.int64) > 0)


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
