"""``memblock``: the boot allocator's list of RAM, which arm64, riscv and others keep.

See mm/memblock.c and include/linux/memblock.h; x86 frees it after boot
(CONFIG_ARCH_KEEP_MEMBLOCK=n). Its layout comes from BTF.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmcorefs.core.maps.memory_map import SYSTEM_RAM, MemoryMap, make_memory_map
from vmcorefs.core.maps.regions import Region
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FormatError

MAX_REGIONS = 1 << 16
"""Most regions accepted: a power of two above what NUMA machines with holes have."""

_MAX_REGION = 256  # bytes; it has 24 or 32

STRUCTS = ("memblock", "memblock_type", "memblock_region")
"""The structures and members that it is read by."""


def read_memblock(memory: KernelMemory, memblock: int, layouts: Mapping[str, Struct]) -> MemoryMap:
    """RAM, from the regions of ``memblock.memory``.

    Args:
        memory: The kernel's virtual memory.
        memblock: Where ``memblock`` is.
        layouts: Of ``STRUCTS``, by name.

    Raises:
        FormatError: if it is not such a list.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    kind, region = layouts["memblock_type"], layouts["memblock_region"]
    if not 0 < region.size <= _MAX_REGION:
        raise FormatError(f"BTF: struct memblock_region has {region.size} bytes")
    ram = memblock + layouts["memblock"].offset("memory")
    count = memory.pointer(ram + kind.offset("cnt"))  # an unsigned long
    if not 0 < count <= MAX_REGIONS:
        raise FormatError(f"memblock: {count} regions, expected 1 to {MAX_REGIONS}")
    stored = memory.read(memory.pointer(ram + kind.offset("regions")), count * region.size)
    word = memory.word_size
    base, size = region.offset("base"), region.offset("size")
    spans = []
    for row in range(0, len(stored), region.size):
        start = memory.decode(stored[row + base : row + base + word])
        length = memory.decode(stored[row + size : row + size + word])
        if not 0 < length <= MAX_ADDRESS - start:
            raise FormatError(f"memblock: a region of {length:#x} bytes at {start:#x}")
        spans.append((start, start + length))
    rows = make_ranges(spans).tolist()  # neighbours differ in their node or flags only
    return make_memory_map([Region(a, b, SYSTEM_RAM) for a, b in rows], "memblock")
