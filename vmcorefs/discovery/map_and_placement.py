"""The memory map in use, and where the bytes belong: given by the user, or else found."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.maps.memory_map import MemoryMap, map_of_ram, with_crash_kernel
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.placement import USUAL_SPLITS, Placement, flat, split
from vmcorefs.core.space.ranges import complement, make_ranges, normalise
from vmcorefs.discovery.crash_kernel.elfcorehdr import examine_places
from vmcorefs.discovery.explore import TOO_MANY, Explorer
from vmcorefs.discovery.missing import PMEMSAVE_MOST, describe_pmemsave
from vmcorefs.discovery.placed import listed_map, with_zeros
from vmcorefs.discovery.plan import only_elfcorehdr
from vmcorefs.discovery.search.scan import locate_all
from vmcorefs.errors import ConfigError
from vmcorefs.reader import Reader
from vmcorefs.sources.base import Source
from vmcorefs.sources.dumps.placed.memory import PlacedMemory

FROM_ELFCOREHDR = "the elfcorehdr in the image"
"""The dialect of a map that is made from an elfcorehdr."""


def find_map_and_placement(
    config: CaptureConfig,
    given: MemoryMap | None,
    placed: PlacedMemory | None,
    explorer: Explorer,
    sources: tuple[Source, ...],
) -> tuple[MemoryMap, Extents]:
    """Find the memory map and the placement of the bytes in the physical address space.

    Args:
        config: What was asked for.
        given: The map that the user gave, if any.
        placed: What the input's format says of its memory, if it is not plain.
        explorer: Used only if no map is given, or the map does not fit the file as it is.
        sources: The inputs.

    Raises:
        ConfigError: if no map is given and none can be found.
        FormatError: if the elfcorehdrs that are found contradict each other.
        SourceIOError: if an input cannot be read.
    """
    if given is None:
        memory_map, captured = _find_both(config, placed, explorer, sources)
        memory_map = with_crash_kernel(memory_map, make_ranges(config.crash_kernel))
    else:
        memory_map, captured = given, explorer.captured
        if explorer.is_movable and given.end > explorer.size and explorer.found is not None:
            captured = explorer.found.captured
    return memory_map, captured if placed is None else with_zeros(captured, placed, memory_map)


def _find_both(
    config: CaptureConfig,
    placed: PlacedMemory | None,
    explorer: Explorer,
    sources: tuple[Source, ...],
) -> tuple[MemoryMap, Extents]:
    """The kernel's own map, or what the format lists as RAM, or the RAM of an elfcorehdr."""
    found = explorer.found
    own = found.kernel_map if found is not None else None
    if placed is not None and len(placed.ram) and (own is None or own.is_of_page_tables):
        return listed_map(placed), explorer.captured
    if found is not None and own is not None:
        return own.memory_map, found.captured
    return _by_elfcorehdr(config, explorer, sources)


def _by_elfcorehdr(
    config: CaptureConfig, explorer: Explorer, sources: tuple[Source, ...]
) -> tuple[MemoryMap, Extents]:
    """RAM from an elfcorehdr, if nothing more detailed is found."""
    if not config.use_elfcorehdr:
        raise ConfigError(_describe_nothing(config, explorer))
    for captured in _iter_placed(explorer):
        memory = Reader("memory", captured, sources)
        places = locate_all(captured, explorer.hits.elf)
        search = examine_places(memory, places, captured.ranges)
        if search.found:
            chosen = only_elfcorehdr(search)
            return map_around(chosen.elfcorehdr, chosen.paddr), captured
    raise ConfigError(_describe_nothing(config, explorer))


def _iter_placed(explorer: Explorer) -> Iterator[Extents]:
    if not explorer.is_movable:
        yield explorer.captured
        return
    size = explorer.size
    splits: Iterator[Placement] = (split(size, low) for low in USUAL_SPLITS if low < size)
    for placement in chain((flat(size),), splits):
        yield explorer.placed(placement)


def map_around(elfcorehdr: Elfcorehdr, paddr: int) -> MemoryMap:
    """The map that an elfcorehdr at ``paddr`` describes.

    Its PT_LOADs are RAM; the gap between them that it is in itself is the crash kernel's.
    """
    ram = elfcorehdr.ram
    gaps = complement(ram, 0, int(ram[-1, 1]))
    inside = gaps[(gaps[:, 0] <= paddr) & (paddr < gaps[:, 1])]
    whole = normalise(np.concatenate((ram, inside)))
    return with_crash_kernel(map_of_ram(whole, FROM_ELFCOREHDR), inside)


def _describe_nothing(config: CaptureConfig, explorer: Explorer) -> str:
    path = config.images[0].name
    found = explorer.found
    if found is None and explorer.ranking:
        seen = (
            f"the only kernel in it, {explorer.ranking[0].candidate.vmcoreinfo.release}, is a"
            " capture kernel; the VMCOREINFO of the one that crashed is missing (--vmcoreinfo)"
        )
    elif found is None:
        seen = "no VMCOREINFO note and no elfcorehdr was found in it"
        if not config.use_vmcoreinfo:
            seen = "VMCOREINFO was not searched for, and no elfcorehdr was found in it"
    else:
        seen = (
            f"the kernel {found.candidate.vmcoreinfo.release} cannot be followed: {found.why_not}"
        )
    if explorer.has_passed_over:
        seen += f" ({TOO_MANY}; --vmcoreinfo)"
    if explorer.is_movable and explorer.size == PMEMSAVE_MOST:
        seen += f"; {describe_pmemsave()}"
    return (
        f"{path}: no memory map is given, and {seen}; if it is plain memory, in which offsets are"
        " physical addresses, pass --map with the text of /proc/iomem, a copy of"
        " /sys/firmware/memmap, the e820 lines of dmesg, or an elfcorehdr"
    )
