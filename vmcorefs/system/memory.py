"""How much memory this machine has left."""

from __future__ import annotations

import re

MEMINFO = "/proc/meminfo"


def available_memory(path: str = MEMINFO) -> int | None:
    """Bytes that can be had without swapping (proc(5), ``MemAvailable``); None if nothing says."""
    try:
        with open(path, "rb") as file:
            found = re.search(rb"^MemAvailable: +(\d+) kB$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) << 10 if found is not None else None
