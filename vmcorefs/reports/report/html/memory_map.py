"""The memory map as a picture: what was where in the physical addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.maps.memory_map import CRASH_KERNEL, SYSTEM_RAM, MemoryMap
from vmcorefs.core.space.ranges import (
    Ranges,
    distinct,
    make_ranges,
    normalise,
    subtract,
    total_size,
)
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.errors import VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.reports.report.html.markup import Markup, items, join, table, tag

_STEPS: Final = 1000
"""Places along the picture; what is less than one of them wide is drawn one wide."""
_GAPS: Final = 0.2
"""Part of the picture, at most, for addresses without RAM: they may be a thousand times as many."""
_LISTED: Final = 200
_HEIGHT: Final = 34
_KERNEL: Final = "Kernel "  # code, rodata, data, bss (arch/x86/kernel/setup.c)

Shape = tuple[str, str, Ranges]
"""A class of style.css, its name, and a normal set of physical addresses."""


class Places(msgspec.Struct, frozen=True):
    """What is known of where things were.

    Attributes:
        memory_map: The memory map.
        missing: RAM that no input holds, a normal set.
        backup: The low memory that was saved elsewhere, a normal set of one or none.
        kernel: The kernel's own image, a normal set.
    """

    memory_map: MemoryMap
    missing: Ranges
    backup: Ranges
    kernel: Ranges


def draw_map(places: Places) -> Markup:
    """The picture, its key, and a list of the regions."""
    memory_map = places.memory_map
    named = memory_map.regions.ranges
    ram = memory_map.ram
    upper: list[Shape] = [
        ("ram", "RAM", ram),
        ("other", "reserved and devices", subtract(named(_is_other), ram)),
        ("missing", "missing from the image", places.missing),
    ]
    lower: list[Shape] = [
        ("kernel", "kernel", places.kernel),
        ("crash", "crash kernel", memory_map.crash_kernel),
        ("backup", "low memory, from the backup", places.backup),
    ]
    cuts = distinct(np.concatenate([shape[2].ravel() for shape in upper + lower]))
    scale = _make_scale(ram, cuts)
    axis = tag("div", *(tag("span", f"{end:#x}") for end in cuts[[0, -1]].tolist()), class_="axis")
    strips = join(_draw(row, scale) for row in (upper, lower))
    key = items((_key(*shape) for shape in upper + lower if len(shape[2])), class_="key")
    return join((strips, axis, key, _list(memory_map)))


def _is_other(name: str) -> bool:
    return SYSTEM_RAM not in name and name != CRASH_KERNEL and not name.startswith(_KERNEL)


Scale = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]


def _make_scale(ram: Ranges, cuts: npt.NDArray[np.int64]) -> Scale:
    """From addresses to places: RAM by its size, and what is between it much smaller.

    Args:
        ram: A normal set.
        cuts: All addresses where something begins or ends, each once and in order.
    """
    sizes = np.diff(cuts).astype(np.float64)
    at = np.searchsorted(ram[:, 0], cuts[:-1], side="right") - 1
    is_ram = (at >= 0) & (cuts[:-1] < ram[np.maximum(at, 0), 1])
    most = sizes[is_ram].sum() * _GAPS / max(int((~is_ram).sum()), 1)
    sizes[~is_ram] = np.minimum(sizes[~is_ram], most)
    ends = np.concatenate(([0.0], np.cumsum(sizes)))
    return lambda addresses: np.interp(addresses, cuts, ends * (_STEPS / ends[-1]))


def _draw(shapes: list[Shape], scale: Scale) -> Markup:
    """One strip; its parts are given in percent, so that it is as wide as there is room."""
    parts = (
        tag(
            "rect",
            tag("title", f"{label}: {format_range(*span)}"),
            x=f"{first / _STEPS:.1%}",
            y=0,
            width=f"{(last - first) / _STEPS:.1%}",
            height="100%",
            class_=kind,
        )
        for kind, label, ranges in shapes
        for first, last, span in _iter_drawn(ranges, scale)
    )
    said = ", ".join(label for _, label, ranges in shapes if len(ranges))
    return tag(
        "svg",
        *parts,
        class_="strip",
        width="100%",
        height=_HEIGHT,
        role="img",
        aria_label=f"memory map: {said or 'nothing'}",
    )


def _iter_drawn(ranges: Ranges, scale: Scale) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """First and last place of each part, and the addresses that it stands for.

    What touches at this scale is one part: there are never more than places.
    """
    if not len(ranges):
        return
    steps = np.stack((np.floor(scale(ranges[:, 0])), np.ceil(scale(ranges[:, 1]))), axis=1)
    steps[:, 0] = np.minimum(steps[:, 0], _STEPS - 1)
    steps[:, 1] = np.maximum(steps[:, 1], steps[:, 0] + 1)
    steps = steps.astype(np.int64)
    parts = normalise(steps)
    rows = np.searchsorted(np.ascontiguousarray(steps[:, 0]), parts)
    for (first, last), (low, high) in zip(parts.tolist(), rows.tolist(), strict=True):
        yield first, last, (int(ranges[low, 0]), int(ranges[high - 1, 1]))


def _key(kind: str, label: str, ranges: Ranges) -> Markup:
    # devices' addresses are no memory: how many there are says nothing
    size = format_size(total_size(ranges)) if kind != "other" else ""
    swatch = tag("svg", tag("rect", width="100%", height="100%", class_=kind), class_="swatch")
    return join((swatch, f"{label} ", tag("small", size)))


def _list(memory_map: MemoryMap) -> Markup:
    regions = memory_map.regions
    rows = (
        (format_range(one.start, one.end), format_size(one.end - one.start), one.name)
        for one in regions[:_LISTED]
    )
    count = len(regions)
    more = f", the first {_LISTED} of them here" if count > _LISTED else ""
    summary = tag("summary", f"{count} regions, from {memory_map.dialect}{more}")
    return tag("details", summary, table(("addresses", "size", "what"), rows))


def places_of(image: MemoryImage) -> Places:
    """What is known of where things were in an image."""
    backup = image.backup
    kernel = image.memory_map.regions.ranges(lambda name: name.startswith(_KERNEL))
    if not len(kernel) and image.kernel is not None:  # a dump's map has RAM alone
        with suppress(VmcorefsError):
            _, start, size = image.kernel.text or (0, 0, 0)
            kernel = make_ranges([(start, start + size)])
    return Places(
        image.memory_map,
        image.missing,
        make_ranges([(backup.start, backup.end)] if backup is not None else []),
        kernel,
    )
