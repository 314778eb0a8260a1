"""What a dump will need at most: room on the target, by what the healthy system uses now."""

from __future__ import annotations

import re
from pathlib import Path

from vmcorefs.capture.settings import DumpSettings
from vmcorefs.core.dump_level import PageKind, left_out
from vmcorefs.errors import UnsupportedError
from vmcorefs.save.command import parse_levels

MEMINFO = "/proc/meminfo"
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
    omitted = left_out(parse_levels(str(settings.level))[-1])
    file_pages = info["Cached"] + info["Buffers"] - info["Shmem"]
    without = (
        (PageKind.FREE, info["MemFree"]),
        (PageKind.CACHE, file_pages),
        (PageKind.USER, info["AnonPages"]),
    )
    size = info["MemTotal"] - sum(count for kind, count in without if omitted[kind])
    return max(size, 0)


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
