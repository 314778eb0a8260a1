"""The memory map: which physical ranges are RAM, and where the crash kernel lived.

The shape is /proc/iomem's: a tree of named regions, the children of a region inside it. Firmware
maps are flat. Names are kept as the kernel spells them (kernel/resource.c, arch/x86/kernel/e820.c).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import msgspec
import numpy as np

from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.maps.iomem import iter_iomem
from vmcorefs.core.maps.regions import Region, Regions
from vmcorefs.core.space.ranges import Ranges, intersect, subtract
from vmcorefs.core.space.units import counted
from vmcorefs.errors import FormatError

SYSTEM_RAM = "System RAM"
CRASH_KERNEL = "Crash kernel"


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
    regions: Regions | Iterable[Region], dialect: str, elfcorehdr: Elfcorehdr | None = None
) -> MemoryMap:
    """Check regions and build the map.

    Args:
        regions: Sorted; a region's children directly after it, one deeper.
        dialect: Where they come from, for people.
        elfcorehdr: The elfcorehdr, if they come from one.

    Raises:
        FormatError: as ``Regions.check`` does; or if there is no RAM at all.
    """
    checked = regions if isinstance(regions, Regions) else Regions.of(regions)
    if len(checked) and not checked.table.start.any() and (checked.table.end == 1).all():
        raise FormatError(
            "every address is 0: the kernel shows /proc/iomem like that without CAP_SYS_ADMIN"
            " (kernel/resource.c); read it as root"
        )
    checked.check()
    memory_map = MemoryMap(checked, dialect, elfcorehdr)
    if not len(memory_map.ram):
        raise FormatError(f"{counted(len(checked), 'region')}, none of which is {SYSTEM_RAM}")
    return memory_map


def map_of_ram(ranges: Ranges, dialect: str, elfcorehdr: Elfcorehdr | None = None) -> MemoryMap:
    """A map of a normal set, all of it System RAM; the errors are those of ``make_memory_map``."""
    return make_memory_map(Regions.flat(ranges, SYSTEM_RAM), dialect, elfcorehdr)


def with_crash_kernel(memory_map: MemoryMap, ranges: Ranges) -> MemoryMap:
    """Add the crash kernel's ranges to a map that lacks them.

    The regions that hold them, usually System RAM, become their parents.

    Raises:
        FormatError: if a range is not inside one region of the map.
    """
    missing = subtract(ranges, intersect(ranges, memory_map.crash_kernel))
    if not len(missing):
        return memory_map
    regions, children = memory_map.regions, Regions.flat(missing, CRASH_KERNEL, depth=1)
    top = regions.table.rows(regions.table.depth == 0)
    row = np.searchsorted(top.start, missing[:, 0], side="right") - 1
    outside = np.flatnonzero((row < 0) | (missing[:, 1] > top.end[row]))
    if len(outside):
        raise FormatError(f"{children[int(outside[0])]}: not inside one region of the map")
    return make_memory_map(regions.with_more(children), memory_map.dialect, memory_map.elfcorehdr)


def map_from_elfcorehdr(elfcorehdr: Elfcorehdr) -> MemoryMap:
    """Read RAM from an elfcorehdr's PT_LOADs; it does not say where the crash kernel lived."""
    return map_of_ram(elfcorehdr.ram, "elfcorehdr", elfcorehdr)


def format_iomem(memory_map: MemoryMap) -> str:
    """Print the map as /proc/iomem does (kernel/resource.c, ``r_show``): inclusive ends."""
    return "".join(iter_iomem(memory_map.regions))
