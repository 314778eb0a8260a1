r"""Memory maps as text: /proc/iomem, /sys/firmware/memmap, and the e820 lines of dmesg.

``parse_memory_map`` tells them apart, and from a binary elfcorehdr, by their content.

=================  ==========================================================  ==========
dialect            a line                                                      end
=================  ==========================================================  ==========
/proc/iomem        ``  1c200000-1d001ef1 : Kernel code``                       inclusive
firmware memmap    ``0x100000 0x3ffdbfff System RAM``                          inclusive
firmware memmap    ``/sys/firmware/memmap/3/start:0x100000`` (``grep .``)      inclusive
e820, 2.6.27 on    ``BIOS-e820: [mem 0x..100000-0x..ffdbfff] usable``          inclusive
e820, before 3.6   ``BIOS-e820: 0000000000100000 - 000000003ffdc000 (usable)`` exclusive
e820, 7.0 on       ``BIOS-e820: [mem 0x..-0x..] System RAM`` and ``[gap ..]``  inclusive
=================  ==========================================================  ==========

Sources: kernel/resource.c; Documentation/ABI/testing/sysfs-firmware-memmap;
arch/x86/kernel/e820.c and, for its spelling after 6.19, tip commit 4d8e5a682be4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from vmcorefs.core.elf.elf import ELF_MAGIC
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.maps.iomem import IOMEM, parse_iomem
from vmcorefs.core.maps.memory_map import (
    SYSTEM_RAM,
    MemoryMap,
    make_memory_map,
    map_from_elfcorehdr,
    with_crash_kernel,
)
from vmcorefs.core.maps.regions import Region
from vmcorefs.core.space.ranges import make_ranges, pair_overlaps, subtract
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

_MEMMAP = "/sys/firmware/memmap"
_MEMMAP_ROW = re.compile(rb"^0x([0-9a-f]+)[ \t]+0x([0-9a-f]+)[ \t]+(\S.*)$", re.MULTILINE)
_MEMMAP_FILE = re.compile(r"^(?:.*/)?([0-9]{1,9})/(start|end|type):(.+)$", re.MULTILINE)

_LINE = re.compile(r"[^\n]+")
_TABLE = r"(BIOS-e820|BIOS-88|BIOS-e801|modified|user|extended|reserve setup_data|Xen)"
_E820_ROW = re.compile(_TABLE + r": \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] +(\S.*)")
_E820_OLD_ROW = re.compile(_TABLE + r": ([0-9a-f]{16}) - ([0-9a-f]{16}) \(([^)]+)\)")
_E820_CHANGE = re.compile(r"e820: (update|remove) \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] +(\S.*)")
_RESERVING = re.compile(
    r"Reserving ([0-9]{1,9})MB of (?:low )?memory at ([0-9]{1,9})MB for crashkernel"
)
_RESERVED = re.compile(r"crashkernel (?:low memory )?reserved: 0x([0-9a-f]+) - 0x([0-9a-f]+)")

MAX_OF_FIRMWARE = 1 << 16
"""Most entries accepted of a table that firmware makes; the kernel takes 3200 at most
(arch/x86/include/asm/e820/types.h, ``E820_MAX_ENTRIES`` with 1024 nodes)."""

_RAM_WORDS = frozenset({"usable", SYSTEM_RAM})


def parse_memory_map(data: bytes) -> MemoryMap:
    """Read a memory map in any of the dialects above, or an elfcorehdr.

    Raises:
        FormatError: if it is none of them, or contradicts itself.
    """
    if data[:4] == ELF_MAGIC:
        return map_from_elfcorehdr(parse_elfcorehdr(data))
    regions = parse_iomem(data)
    if regions is not None:
        return make_memory_map(regions, IOMEM)
    memory_map = _parse_memmap_rows(data)
    if memory_map is not None:
        return memory_map
    text = data.decode("utf-8", "replace")
    for parse in (_parse_memmap_files, _parse_e820):
        memory_map = parse(text)
        if memory_map is not None:
            return memory_map
    start = data[:16]
    raise FormatError(
        f"not a memory map: starts with {start!r}; expected the text of /proc/iomem or"
        " /sys/firmware/memmap, e820 lines of dmesg, or an elfcorehdr"
    )


def _parse_memmap_rows(text: bytes) -> MemoryMap | None:
    if not _MEMMAP_ROW.search(text):
        return None
    regions = parse_iomem(_MEMMAP_ROW.sub(rb"\1-\2 : \3", text), _MEMMAP)
    # a shell lists the directory as 0 1 10 11 2: its order says nothing
    return make_memory_map(regions.in_order(), _MEMMAP) if regions is not None else None


def _parse_memmap_files(text: str) -> MemoryMap | None:
    entries: dict[int, dict[str, str]] = {}
    for match in _MEMMAP_FILE.finditer(text):
        entries.setdefault(int(match[1]), {})[match[2]] = match[3].strip()
        _check_count(len(entries))
    if not entries:
        return None
    rows = []
    for number, entry in sorted(entries.items()):
        if entry.keys() != {"start", "end", "type"}:
            raise FormatError(f"entry {number}: has {sorted(entry)}, expected start, end and type")
        rows.append(f"{entry['start']} {entry['end']} {entry['type']}")
    parsed = _parse_memmap_rows("\n".join(rows).encode())
    if parsed is None:
        raise FormatError(f"entries of /sys/firmware/memmap without addresses: {rows[0]!r}")
    return parsed


def _parse_e820(text: str) -> MemoryMap | None:
    # a kernel prints the firmware's table, then each table that it made of it: the last one counts
    tables: dict[str, list[Region]] = {}
    last = ""
    changes: list[re.Match[str]] = []
    number, start = 1, 0
    for match in _LINE.finditer(text):
        number, start = number + text.count("\n", start, match.start()), match.start()
        line = match[0]
        row = _parse_e820_row(line, number)
        if row is not None:
            last = row[0]
            tables.setdefault(last, []).append(row[1])
            changes.clear()
            _check_count(len(tables[last]))
        elif change := _E820_CHANGE.search(line):
            changes.append(change)
            _check_count(len(changes))
    if not tables:
        return None
    memory_map = make_memory_map(tables[last], f"e820 ({last})")
    memory_map = _apply_changes(memory_map, changes)
    reserved = make_ranges(_crash_kernel_lines(text))
    return with_crash_kernel(memory_map, reserved) if len(reserved) else memory_map


def _check_count(count: int) -> None:
    if count > MAX_OF_FIRMWARE:
        raise FormatError(f"more than {MAX_OF_FIRMWARE} entries of a firmware's map")


def _parse_e820_row(line: str, number: int) -> tuple[str, Region] | None:
    if row := _E820_ROW.search(line):
        end = _hex(row[3]) + 1
    elif row := _E820_OLD_ROW.search(line):
        end = _hex(row[3])
    else:
        return None
    kind = row[4].strip()
    name = SYSTEM_RAM if kind in _RAM_WORDS else kind
    return row[1], Region(_hex(row[2]), end, name, 0, number)


def _apply_changes(memory_map: MemoryMap, changes: list[re.Match[str]]) -> MemoryMap:
    """Remove from RAM what the kernel's later ``e820: update`` and ``remove`` lines remove.

    The kernel changes a copy of the printed table, and /proc/iomem shows the result: on every PC
    the first page is removed from RAM.
    """
    taken = make_ranges(
        (_hex(change[2]), _hex(change[3]) + 1) for change in changes if _takes_ram(change[4])
    )
    ram = subtract(memory_map.ram, taken)
    before = [region for region in memory_map.regions if region.name == SYSTEM_RAM]
    start, end = np.array([(r.start, r.end) for r in before], dtype=np.int64).reshape(-1, 2).T
    region_row, ram_row = pair_overlaps(start, end, ram[:, 0], ram[:, 1])
    kept = [
        Region(
            max(before[row].start, first),
            min(before[row].end, last),
            SYSTEM_RAM,
            0,
            before[row].line,
        )
        for row, (first, last) in zip(region_row.tolist(), ram[ram_row].tolist(), strict=True)
    ]
    others = [region for region in memory_map.regions if region.name != SYSTEM_RAM]
    return make_memory_map(sorted(kept + others), memory_map.dialect)


def _takes_ram(change: str) -> bool:
    before, _, after = change.strip().partition(" ==> ")
    return before in _RAM_WORDS and after not in _RAM_WORDS


def _crash_kernel_lines(text: str) -> Iterable[tuple[int, int]]:
    # "Reserving 192MB of memory at 800MB for crashkernel" up to 6.6 (arch/x86/kernel/setup.c),
    # "crashkernel reserved: 0x... - 0x... (192 MB)" since (kernel/crash_reserve.c), end exclusive
    for match in _RESERVING.finditer(text):
        start = int(match[2]) << 20
        yield start, start + (int(match[1]) << 20)
    for match in _RESERVED.finditer(text):
        yield _hex(match[1]), _hex(match[2])


def _hex(digits: str) -> int:
    value = int(digits, 16)
    # firmware may list a region up to the last possible address; RAM is never there
    return min(value, MAX_ADDRESS - 1)
