"""The memory map from the kernel's own data: the most detailed one that can be read.

From the most detailed to the least: ``iomem_resource`` (all that /proc/iomem shows), the e820
tables (x86), ``memblock`` (if the kernel keeps it), ``mem_section`` with the direct map, the direct
map alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from vmcorefs.core.maps.e820 import read_boot_params, read_e820_table
from vmcorefs.core.maps.memblock import STRUCTS, read_memblock
from vmcorefs.core.maps.memory_map import MemoryMap, map_of_ram, with_crash_kernel
from vmcorefs.core.maps.resources import RESOURCE, read_resources, read_span
from vmcorefs.core.paging.direct_map import directly_mapped
from vmcorefs.core.space.ranges import Ranges, intersect, make_ranges
from vmcorefs.core.structures.mem_section import read_sections
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.kernel.iomem_resource import find_iomem_resource

if TYPE_CHECKING:
    from vmcorefs.kernel.kernel import Kernel

_BY_SECTIONS = "mem_section and the direct map of the page tables"
_BY_PAGE_TABLES = "the direct map of the page tables"


class KernelMap(msgspec.Struct, frozen=True):
    """A memory map that was read from a kernel.

    Attributes:
        memory_map: The map; its dialect says what it was read from.
        refused: Why more detailed ones could not be read, a line each.
    """

    memory_map: MemoryMap
    refused: tuple[str, ...]

    @property
    def is_of_page_tables(self) -> bool:
        """Whether it was only told from what the page tables map."""
        return self.memory_map.dialect in (_BY_SECTIONS, _BY_PAGE_TABLES)


def read_kernel_map(kernel: Kernel) -> KernelMap | None:
    """Read the most detailed map; None if there is none at all.

    Raises:
        SourceIOError: if an input cannot be read.
    """
    return _first(kernel, _ALL)


def read_static_map(kernel: Kernel) -> MemoryMap | None:
    """A map in the kernel's image itself, so that no other memory need be in place.

    Raises:
        SourceIOError: if an input cannot be read.
    """
    found = _first(kernel, (_boot_params, _memblock))
    return found.memory_map if found else None


def _first(kernel: Kernel, ways: tuple[Callable[[Kernel], MemoryMap], ...]) -> KernelMap | None:
    refused: list[str] = []
    for read in ways:
        try:
            return KernelMap(read(kernel), tuple(refused))
        except VmcorefsError as error:
            refused.append(str(error))
    return None


def _iomem_resource(kernel: Kernel) -> MemoryMap:
    layout = RESOURCE
    with suppress(VmcorefsError):  # without BTF: the layout has been the same for long
        layout = kernel.structs("resource")["resource"]
    try:
        root = kernel.symbol("iomem_resource")
    except VmcorefsError:  # no CONFIG_KALLSYMS_ALL, a kernel before 6.0, or lost tables
        root = find_iomem_resource(kernel)
    return read_resources(kernel.virtual, root, layout)


def _e820_table(kernel: Kernel) -> MemoryMap:
    read = read_e820_table(kernel.virtual, kernel.symbol("e820_table"))
    return with_crash_kernel(read, _crash_kernel(kernel))


def _boot_params(kernel: Kernel) -> MemoryMap:
    read = read_boot_params(kernel.image, kernel.symbol("boot_params"))
    return with_crash_kernel(read, _crash_kernel(kernel))


def _memblock(kernel: Kernel) -> MemoryMap:
    # the regions are an array in the image, unless there were too many of them
    read = read_memblock(kernel.image, kernel.symbol("memblock"), kernel.structs(*STRUCTS))
    return with_crash_kernel(read, _crash_kernel(kernel))


def _sections(kernel: Kernel) -> MemoryMap:
    present = read_sections(kernel.vmcoreinfo, kernel.virtual)
    return _from_ranges(intersect(present, _mapped(kernel)), _BY_SECTIONS)


def _direct_map(kernel: Kernel) -> MemoryMap:
    return _from_ranges(_mapped(kernel), _BY_PAGE_TABLES)


_ALL = (_iomem_resource, _e820_table, _boot_params, _memblock, _sections, _direct_map)


def _mapped(kernel: Kernel) -> Ranges:
    found = kernel.direct_map
    if found.distance is None:
        raise FormatError(f"no direct map: {'; '.join(found.against)}")
    return directly_mapped(kernel.mappings, found.distance)


def _from_ranges(ranges: Ranges, dialect: str) -> MemoryMap:
    return map_of_ram(ranges, dialect)


def _crash_kernel(kernel: Kernel) -> Ranges:
    """``crashk_res`` and ``crashk_low_res``, which are in the kernel's image."""
    return make_ranges(_iter_crash_kernel(kernel))


def _iter_crash_kernel(kernel: Kernel) -> Iterator[tuple[int, int]]:
    for name in ("crashk_res", "crashk_low_res"):
        try:
            span = read_span(kernel.image, kernel.symbol(name))
        except VmcorefsError:
            continue  # built without kexec
        if span[1] - span[0] > 1:
            yield span
