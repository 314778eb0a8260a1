"""RAM that no input holds: how it is told, with advice only where the memory map bears it out."""

from __future__ import annotations

import shlex
from typing import Final

from vmcorefs.config import CaptureConfig
from vmcorefs.core.maps.memory_map import MemoryMap
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.placement import FIRMWARE, PCI_HOLE_END
from vmcorefs.core.space.ranges import Ranges, intersect, make_ranges, total_size
from vmcorefs.core.space.units import PAGE_SIZE, format_range, format_size
from vmcorefs.sources.base import Source

PMEMSAVE_MOST: Final = PCI_HOLE_END - 1
"""The most bytes that pmemsave of QEMU's monitor saves: its size is 32 bits (hmp-commands.hx)."""

_SHOWN: Final = 12


def summarise_missing(missing: Ranges) -> str:
    """How much is missing, and where the first of it is."""
    first = format_range(int(missing[0, 0]), int(missing[0, 1]))
    return f"{format_size(total_size(missing))} of RAM are in no input, first {first}"


def describe_missing(
    config: CaptureConfig,
    image: Source,
    missing: Ranges,
    memory_map: MemoryMap,
    memory: Extents,
    *,
    is_placed: bool,
) -> str:
    """Say that RAM is missing, and what to do.

    Args:
        config: What was asked for.
        image: The first input.
        missing: The RAM that is missing, a normal set.
        memory_map: The map in use.
        memory: What the inputs hold; ``source`` 0 is ``image``.
        is_placed: Whether the kernel's page tables say where the bytes belong.
    """
    message = (
        f"{image.name}: {image.size} bytes, but the memory map ends at {memory_map.end:#x}"
        f" ({memory_map.end} bytes); {summarise_missing(missing)}"
    )
    held = memory.rows(memory.source == 0)
    flat = bool((held.start == held.offset - config.images[0].offset).all())
    alone = len(config.images) == 1 and config.images[0].paddr is None
    rest = "pass --truncated to serve the rest, with EIO for what is missing"
    if alone and flat and not is_placed:
        layout = _other_layout(config.images[0].name, image.size, memory_map.ram)
        if layout:
            return f"{message}; {layout}"
    if config.images[0].paddr in (None, 0) and flat and image.size == PMEMSAVE_MOST:
        return f"{message}; {describe_pmemsave()}; {rest}"
    return f"{message}; {rest}"


def describe_pmemsave() -> str:
    """What to know of a file that has the most bytes that pmemsave saves."""
    return (
        "4 GiB - 1 is the most that QEMU's pmemsave saves at once, so what lies above was not"
        " saved: dump-guest-memory saves all"
    )


def _other_layout(path: str, size: int, ram: Ranges) -> str:
    """How a file may be laid out in which offsets are no addresses; empty if its size denies it."""
    name = shlex.quote(path)
    if len(ram) > 1 and size == total_size(ram):
        return (
            "its size is that of all RAM: if its ranges lie one right behind the other, as LiME's"
            f" raw format has them, give each as a piece: {_concatenated(name, ram)}"
        )
    below = intersect(ram, make_ranges([(0, PCI_HOLE_END)]))
    low = size - (int(ram[-1, 1]) - PCI_HOLE_END)
    end = int(below[-1, 1]) if len(below) else 0
    if ram[-1, 1] <= PCI_HOLE_END or low % PAGE_SIZE or not 0 < end <= low <= end + FIRMWARE:
        return ""
    return (
        "if it is QEMU's memory file, which keeps RAM above 4 GiB right behind RAM below it, give"
        f" its two pieces: {name}@0+{low:#x} {name}@{PCI_HOLE_END:#x}:{low:#x}"
    )


def _concatenated(name: str, ram: Ranges) -> str:
    if len(ram) > _SHOWN:
        return f"{name}@START:OFFSET+SIZE"
    sizes = [end - start for start, end in ram.tolist()]
    return " ".join(
        f"{name}@{start:#x}:{sum(sizes[:n]):#x}+{sizes[n]:#x}"
        for n, start in enumerate(ram[:, 0].tolist())
    )
