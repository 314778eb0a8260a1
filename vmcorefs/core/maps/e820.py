"""The e820 tables of x86, as the kernel keeps them: RAM without /proc/iomem.

``boot_params`` has the firmware's table (arch/x86/include/uapi/asm/bootparam.h); the pointer
``e820_table`` leads to what the kernel made of it (arch/x86/include/asm/e820/types.h).
"""

from __future__ import annotations

import struct

from vmcorefs.core.maps.memory_map import SYSTEM_RAM, MemoryMap, make_memory_map
from vmcorefs.core.maps.regions import Region
from vmcorefs.core.space.ranges import Ranges, make_ranges, subtract
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

MAX_ENTRIES = 128 + 3 * 1024
"""E820_MAX_ENTRIES: what fits a boot page, and three for each of 1024 NUMA nodes."""

_ENTRY = struct.Struct("<QQI")
_COUNT_IN_BOOT_PARAMS = 0x1E8
_TABLE_IN_BOOT_PARAMS = 0x2D0
_BOOT_ENTRIES = 128
_RAM, _RESERVED_KERN = 1, 128

# arch/x86/kernel/e820.c, e820_type_to_string
_NAMES = {
    _RAM: SYSTEM_RAM,
    2: "Reserved",
    3: "ACPI Tables",
    4: "ACPI Non-volatile Storage",
    5: "Unusable memory",
    7: "Persistent Memory",
    12: "Persistent Memory (legacy)",
    _RESERVED_KERN: SYSTEM_RAM,
    0xEFFFFFFF: "Soft Reserved",
}


def read_boot_params(memory: KernelMemory, boot_params: int) -> MemoryMap:
    """The firmware's table in ``boot_params``, less the RAM that the kernel always reserves.

    Raises:
        FormatError: if it is not such a table.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    count = memory.integer(boot_params + _COUNT_IN_BOOT_PARAMS, 1)
    if not 0 < count <= _BOOT_ENTRIES:
        raise FormatError(f"boot_params: {count} e820 entries, expected 1 to {_BOOT_ENTRIES}")
    stored = memory.read(boot_params + _TABLE_IN_BOOT_PARAMS, count * _ENTRY.size)
    # arch/x86/kernel/setup.c, trim_bios_range: page 0 and what lies from 640 KiB to 1 MiB
    bios = make_ranges([(0, 0x1000), (0xA0000, 0x100000)])
    return _make_map(stored, bios, "boot_params' e820 table")


def read_e820_table(memory: KernelMemory, e820_table: int) -> MemoryMap:
    """The kernel's table, to which the pointer at ``e820_table`` leads; the errors are the same."""
    table = memory.pointer(e820_table)
    count = memory.integer(table, 4)
    if not 0 < count <= MAX_ENTRIES:
        raise FormatError(f"e820_table: {count} entries, expected 1 to {MAX_ENTRIES}")
    stored = memory.read(table + 4, count * _ENTRY.size)
    return _make_map(stored, make_ranges([]), "e820_table")


def _make_map(stored: bytes, taken: Ranges, dialect: str) -> MemoryMap:
    regions = []
    for start, size, kind in _ENTRY.iter_unpack(stored):
        if not size:
            continue
        if start + size > MAX_ADDRESS:
            raise FormatError(f"{dialect}: an entry of {size:#x} bytes at {start:#x}")
        name = _NAMES.get(kind, "Unknown E820 type")
        if name != SYSTEM_RAM:
            regions.append(Region(start, start + size, name))
            continue
        left = subtract(make_ranges([(start, start + size)]), taken)
        regions += [Region(a, b, name) for a, b in left.tolist()]
    return make_memory_map(sorted(regions), dialect)
