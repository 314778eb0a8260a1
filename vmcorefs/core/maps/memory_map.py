"""The memory map: which physical ranges are RAM, and where the crash kernel lived.

The shape is /proc/iomem's: a tree of named regions, the children of a region inside it. Firmware
maps are flat. Names are kept as the kernel spells them (kernel/resource.c, arch/x86/kernel/e820.c).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, overload

import msgspec
import numpy as np

from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.space.ranges import Ranges, intersect, normalise, subtract
from vmcorefs.core.space.units import MAX_ADDRESS, format_range
from vmcorefs.errors import FormatError

SYSTEM_RAM = "System RAM"
CRASH_KERNEL = "Crash kernel"


class Region(NamedTuple):
    """A typed range of the memory map.

    Attributes:
        start: First physical address, in bytes.
        end: One past the last; maps print the last one.
        name: The kernel's name for it.
        depth: 0 for a top-level region, 1 for its children, and so on.
        line: Its line in the input, counted from 1; 0 if it has none.
    """

    start: int
    end: int
    name: str
    depth: int = 0
    line: int = 0


class Regions(Sequence[Region]):
    """Checked regions as columns: as Python objects, a map of 100,000 ranges would take 25 MB."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self._ranges = np.array([(r.start, r.end) for r in regions], dtype=np.int64).reshape(-1, 2)
        self._places = np.array([(r.depth, r.line) for r in regions], dtype=np.int32).reshape(-1, 2)
        number = {name: n for n, name in enumerate(dict.fromkeys(r.name for r in regions))}
        self._names = tuple(number)
        self._name = np.array([number[r.name] for r in regions], dtype=np.int32)

    def __len__(self) -> int:
        return len(self._ranges)

    def __iter__(self) -> Iterator[Region]:
        columns = (self._ranges.tolist(), self._name.tolist(), self._places.tolist())
        for (start, end), name, (depth, line) in zip(*columns, strict=True):
            yield Region(start, end, self._names[name], depth, line)

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Region, ...]: ...
    def __getitem__(self, index: int | slice) -> Region | tuple[Region, ...]:
        return tuple(self)[index]

    def ranges(self, wanted: Callable[[str], bool]) -> Ranges:
        """The regions whose name passes ``wanted``, as a normal set."""
        named = np.array([wanted(name) for name in self._names], dtype=np.bool_)
        return normalise(self._ranges[named[self._name]])


class MemoryMap(msgspec.Struct, frozen=True, dict=True):
    """A checked memory map.

    Attributes:
        regions: In order of address, parents before their children.
        dialect: The kind of text or header it was read from, for people.
        elfcorehdr: The elfcorehdr, if it was read from one.
    """

    regions: Regions
    dialect: str
    elfcorehdr: Elfcorehdr | None = None

    @cached_property
    def ram(self) -> Ranges:
        """System RAM, crash kernel's ranges included: a normal set.

        Any region whose name contains the words counts, even ``System RAM (kmem)`` and children of
        other regions, as in kexec-tools (kexec/arch/i386/crashdump-x86.c).
        """
        return self.regions.ranges(lambda name: SYSTEM_RAM in name)

    @cached_property
    def crash_kernel(self) -> Ranges:
        """Where the capture kernel was loaded, a normal set; empty if the map does not say."""
        return self.regions.ranges(lambda name: name == CRASH_KERNEL)

    @property
    def crashed_ram(self) -> Ranges:
        """RAM that the crashed kernel used: System RAM without the crash kernel's ranges."""
        return subtract(self.ram, self.crash_kernel)

    @property
    def end(self) -> int:
        """One past the last byte of RAM."""
        return int(self.ram[-1, 1]) if len(self.ram) else 0


def make_memory_map(
    regions: Iterable[Region], dialect: str, elfcorehdr: Elfcorehdr | None = None
) -> MemoryMap:
    """Check regions and build the map.

    Args:
        regions: Sorted; a region's children directly after it, one deeper.
        dialect: Where they come from, for people.
        elfcorehdr: The elfcorehdr, if they come from one.

    Raises:
        FormatError: with both lines, if a region is empty, starts before or overlaps the one that
            precedes it, or leaves its parent; or if there is no RAM at all.
    """
    checked = tuple(regions)
    if checked and all(r.start == 0 and r.end == 1 for r in checked):
        raise FormatError(
            "every address is 0: the kernel shows /proc/iomem like that without CAP_SYS_ADMIN"
            " (kernel/resource.c); read it as root"
        )
    last_at_depth: list[Region] = []
    for region in checked:
        _check_region(region, last_at_depth)
        last_at_depth[region.depth :] = [region]
    memory_map = MemoryMap(Regions(checked), dialect, elfcorehdr)
    if not len(memory_map.ram):
        raise FormatError(f"{len(checked)} regions, but none of them is {SYSTEM_RAM}")
    return memory_map


def with_crash_kernel(memory_map: MemoryMap, ranges: Ranges) -> MemoryMap:
    """Add the crash kernel's ranges to a map that lacks them.

    The regions that hold them, usually System RAM, become their parents.

    Raises:
        FormatError: if a range is not inside one region of the map.
    """
    known = intersect(ranges, memory_map.crash_kernel)
    missing = subtract(ranges, known)
    if not len(missing):
        return memory_map
    children = [Region(int(a), int(b), CRASH_KERNEL, 1) for a, b in missing.tolist()]
    flat = [r for r in memory_map.regions if r.depth == 0]
    starts = [r.start for r in flat]
    for child in children:
        row = bisect_right(starts, child.start) - 1
        if row < 0 or child.end > flat[row].end:
            raise FormatError(f"{_where(child)}: not inside one region of the map")
    ordered = sorted((*memory_map.regions, *children), key=lambda r: (r.start, -r.end, r.depth))
    return make_memory_map(ordered, memory_map.dialect, memory_map.elfcorehdr)


def map_from_elfcorehdr(elfcorehdr: Elfcorehdr) -> MemoryMap:
    """Read RAM from an elfcorehdr's PT_LOADs; it does not say where the crash kernel lived."""
    ranges = normalise(elfcorehdr.ram).tolist()
    return make_memory_map(
        (Region(start, end, SYSTEM_RAM) for start, end in ranges), "elfcorehdr", elfcorehdr
    )


def format_iomem(memory_map: MemoryMap) -> str:
    """Print the map as /proc/iomem does (kernel/resource.c, ``r_show``): inclusive ends."""
    return "".join(
        f"{'  ' * r.depth}{r.start:08x}-{r.end - 1:08x} : {r.name}\n" for r in memory_map.regions
    )


def _check_region(region: Region, last_at_depth: list[Region]) -> None:
    """Check a region against the last one of its own depth and against its parent."""
    if not 0 <= region.start < region.end <= MAX_ADDRESS:
        raise FormatError(f"{_where(region)}: empty, or it ends beyond {MAX_ADDRESS:#x}")
    if region.depth > len(last_at_depth):
        raise FormatError(f"{_where(region)}: indented deeper than the region before it allows")
    if region.depth:
        parent = last_at_depth[region.depth - 1]
        if not parent.start <= region.start < region.end <= parent.end:
            raise FormatError(f"{_where(region)}: not inside {_where(parent)}")
    if region.depth < len(last_at_depth):
        sibling = last_at_depth[region.depth]
        if region.start < sibling.end:
            problem = "overlaps" if region.end > sibling.start else "is out of order after"
            raise FormatError(f"{_where(region)}: {problem} {_where(sibling)}")


def _where(region: Region) -> str:
    line = f"line {region.line}: " if region.line else ""
    return f"{line}{region.name} {format_range(region.start, region.end)}"
