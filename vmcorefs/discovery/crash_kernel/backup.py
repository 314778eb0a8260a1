"""The backup of low memory: which physical range it belongs to, and whether it was ever made.

On x86 the capture kernel boots through low memory, so kexec's purgatory copies the first RAM
range that ends at or below 640 KiB into the crash kernel's memory (kexec-tools,
kexec/arch/i386/crashdump-x86.c; purgatory/arch/x86_64/purgatory-x86_64.c). ppc64 saves 64 KiB,
MIPS 1 MiB. A crash kernel loaded with kexec_file_load has had none since Linux 5.5
(commit 7c321eb2b843 ("x86/kdump: Remove the backup region handling")).
"""

from __future__ import annotations

import msgspec

from vmcorefs.core.elf.elf import EM_MIPS, EM_PPC64
from vmcorefs.core.maps.memory_map import MemoryMap
from vmcorefs.core.space.extents import Extents, Kind, relocate, restrict
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import align_up, format_range
from vmcorefs.errors import ConfigError, FaultError, LayoutError, UnreadableError
from vmcorefs.reader import Reader
from vmcorefs.sources.unreadable import read_around

BACKUP_SRC_END = 0xA0000
"""640 KiB: KEXEC_BACKUP_SRC_END + 1 of kexec-tools, kexec/arch/i386/crashdump-x86.h."""

_FIXED = {EM_PPC64: 0x10000, EM_MIPS: 0x100000}
_GRANULE = 1024


class Backup(msgspec.Struct, frozen=True):
    """The saved low memory in use.

    Attributes:
        start: First physical address that it replaces.
        end: One past the last.
        origin: Where the bytes are, for people: a path, or a place in the image.
        extents: The table of the bytes, by physical address.
    """

    start: int
    end: int
    origin: str
    extents: Extents


def expected_range(
    elfcorehdr_backup: tuple[int, int, int] | None, memory_map: MemoryMap, machine: int
) -> tuple[int, int]:
    """The physical range of a backup that is given without an address.

    Args:
        elfcorehdr_backup: ``Elfcorehdr.backup``, which counts first.
        memory_map: Next, its first RAM range that ends at or below 640 KiB.
        machine: ``e_machine``; ppc64 and MIPS save a fixed size.

    Raises:
        ConfigError: if neither says.
    """
    if elfcorehdr_backup is not None:
        return elfcorehdr_backup[0], elfcorehdr_backup[0] + elfcorehdr_backup[1]
    if machine in _FIXED:
        return 0, _FIXED[machine]
    for start, end in memory_map.ram.tolist():
        if end <= BACKUP_SRC_END:
            return start, end
    raise ConfigError(
        "the map has no RAM range that ends at or below 640 KiB, so the backup's place must be"
        " given: --backup FILE@PADDR"
    )


def check_size(name: str, size: int, start: int, end: int) -> None:
    """Refuse a backup file that does not fit its range.

    Raises:
        LayoutError: if ``size`` is neither the range's size nor that size rounded up to 1 KiB, as
            kexec-tools allocates it.
    """
    wanted = end - start
    if size not in (wanted, align_up(wanted, _GRANULE)):
        raise LayoutError(
            f"{name}: {size} bytes, but the backup region {format_range(start, end)} has {wanted};"
            f" if it belongs elsewhere, give its address: --backup {name}@PADDR"
        )


def backup_in_image(
    memory: Reader, elfcorehdr_backup: tuple[int, int, int]
) -> tuple[Backup | None, str]:
    """The backup that purgatory left in the crash kernel's memory.

    Returns:
        The backup; or None and the reason, if it was never filled (crash applies the same rule,
        netdump.c, ``kdump_backup_region_init``).

    Raises:
        FaultError: if the image does not hold it, or it cannot be read; a part is enough.
    """
    paddr, size, offset = elfcorehdr_backup
    where = f"the backup region at {format_range(offset, offset + size)}"
    saved = bytearray(size)
    try:
        memory.pread_into(offset, memoryview(saved))
    except UnreadableError:
        read_around(memory.pread_into, offset, memoryview(saved))
        if not any(saved):  # what can be read does not say whether it was filled
            raise
    if not any(saved):
        return None, f"{where} was never filled: low memory is used as it is in the image"
    held = restrict(memory.table, make_ranges([(offset, offset + size)])).only(Kind.DATA)
    extents = relocate(held, paddr - offset)
    return Backup(paddr, paddr + size, where, extents), ""


def compare(memory: Reader, elfcorehdr_backup: tuple[int, int, int], given: Reader) -> str:
    """Compare a given backup with the one in the image, at the addresses that both have.

    Args:
        memory: The captured memory, by physical address.
        elfcorehdr_backup: ``Elfcorehdr.backup``.
        given: The given backup, by physical address.

    Returns:
        The difference in one line; empty if there is none, or no backup in the image.
    """
    paddr, size, offset = elfcorehdr_backup
    start = max(paddr, int(given.table.start[0]))
    both = max(min(paddr + size, int(given.table.end[0])) - start, 0)
    try:
        theirs = memory.pread(both, offset + start - paddr)
        ours = given.pread(both, start)
    except FaultError:
        return ""
    if theirs == ours or not any(theirs):
        return ""
    count = sum(a != b for a, b in zip(theirs, ours, strict=True))
    return (
        f"the given backup differs in {count} bytes from the backup region in the image at"
        f" {format_range(offset, offset + size)}; the given one is used"
    )
