"""``oldmem``: the physical address space as a raw device, offset by offset.

The device of 2004 (drivers/char/mem.c of 2.6.9-rc1-mm5, ``read_oldmem``) had these rules: an
offset is a physical address of the crashed kernel, low memory is read from the backup, and the
range where the capture kernel lives reads as zeros. Its short counts at the end and its unaligned
reads were bugs and are not copied.
"""

from __future__ import annotations

from vmcorefs.core.space.extents import Kind, exclude, fill, make_extents, merge, restrict
from vmcorefs.core.space.ranges import intersect, make_ranges
from vmcorefs.image import MemoryImage
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.tree.file import TreeFile, complete


def oldmem_file(image: MemoryImage, faults: frozenset[Kind] = DEFAULT_FAULTS) -> TreeFile:
    """The file; it ends behind the last byte of RAM.

    Its table is made when it is first asked for: on a machine with many ranges it is as long as the
    vmcore's.
    """
    return TreeFile("oldmem", lambda: _make(image, faults))


def _make(image: MemoryImage, faults: frozenset[Kind]) -> Reader:
    memory_map = image.memory_map
    table = restrict(image.memory, memory_map.ram)
    if not image.config.raw_reserved:
        reserved = intersect(memory_map.crash_kernel, make_ranges([(0, memory_map.end)]))
        table = merge(exclude(table, reserved), make_extents(reserved, kind=Kind.ZERO))
    table = fill(table, memory_map.ram, Kind.MISSING)
    return Reader("oldmem", complete(table, memory_map.end, Kind.HOLE), image.sources, faults)
