"""What a dump will need at most: room on the target, and memory for the capture kernel.

Both by what the healthy system uses now; ``vmcorefs estimate /proc/kcore`` counts its pages.
"""

from __future__ import annotations

import re
from pathlib import Path

from vmcorefs.capture.settings import DumpSettings
from vmcorefs.core.pages.dump_level import PageKind, left_out
from vmcorefs.core.space.units import PAGE_SIZE, align_up, format_size
from vmcorefs.errors import UnsupportedError

MEMINFO = "/proc/meminfo"

NEEDED_MEMORY = 256 << 20
"""Bytes of crashkernel= in which everything here was seen to run (docs/capture.md)."""

TRIAGE_SIZE = 32 << 20
"""Bytes of a triage dump before compression, more than was seen (docs/save.md)."""

_STEP = 32 << 20
_LINE = re.compile(r"^(\w[^:\n]*):\s+([0-9]{1,15}) kB$", re.MULTILINE)


def estimate_dump(settings: DumpSettings, path: str = MEMINFO) -> int:
    """The bytes of a dump, before compression, if the kernel crashed now.

    What the level leaves out is counted as the kernel counts it, which is less exact than a look
    at each page.

    Args:
        settings: The level and the format.
        path: /proc/meminfo, or a copy.

    Raises:
        UnsupportedError: if it cannot be read.
    """
    info = read_meminfo(path)
    if settings.format == "vmcore":
        return info["MemTotal"]
    levels = settings.levels
    if not levels:
        return TRIAGE_SIZE
    omitted = left_out(levels[-1])
    file_pages = info["Cached"] + info["Buffers"] - info["Shmem"]
    without = (
        (PageKind.FREE, info["MemFree"]),
        (PageKind.CACHE, file_pages),
        (PageKind.USER, info["AnonPages"]),
    )
    size = info["MemTotal"] - sum(count for kind, count in without if omitted[kind])
    return max(size, 0)


def needed_memory(ram: int) -> int:
    """The bytes that crashkernel= should reserve on a machine with ``ram`` bytes.

    The base is what everything here was seen to run in (docs/capture.md), on a machine of 1 GiB.
    To that come the two bitmaps of a dump, a bit for each page, which saving keeps in memory.
    """
    bitmaps = 2 * (ram // PAGE_SIZE) // 8
    return align_up(NEEDED_MEMORY + bitmaps, _STEP) if bitmaps > _STEP else NEEDED_MEMORY


def describe_needs(settings: DumpSettings, reserved: int | None, path: str = MEMINFO) -> str:
    """What a dump of this machine needs, some lines.

    Args:
        settings: The level and the format.
        reserved: What crashkernel= reserves now, in bytes; None if that is not known.
        path: /proc/meminfo, or a copy.
    """
    needed = needed_memory(read_meminfo(path)["MemTotal"])
    now = "unknown" if reserved is None else format_size(reserved)
    return (
        f"crashkernel={needed >> 20}M  (reserved now: {now})\n"
        f"disk         {format_size(estimate_dump(settings, path))} at most, before compression,"
        f" at dump level {settings.level}, if this kernel crashed now\n"
        "             (vmcorefs estimate /proc/kcore looks at the pages, and compresses some)\n"
    )


def read_meminfo(path: str = MEMINFO) -> dict[str, int]:
    """/proc/meminfo in bytes (proc_meminfo(5)).

    Raises:
        UnsupportedError: if it cannot be read, or lacks what is asked of it here.
    """
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise UnsupportedError(f"{path}: cannot read: {error.strerror}") from error
    info = {name: int(value) << 10 for name, value in _LINE.findall(text)}
    for name in ("MemTotal", "MemFree", "Cached", "Buffers", "Shmem", "AnonPages"):
        if name not in info:
            raise UnsupportedError(f"{path}: no line {name}")
    return info
