"""Memory: what this machine has left, and what this process gives back."""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress

_libc = ctypes.CDLL(None)
_M_MMAP_THRESHOLD = -3

MEMINFO = "/proc/meminfo"


def available_memory(path: str = MEMINFO) -> int | None:
    """Bytes that can be had without swapping (proc(5), ``MemAvailable``); None if nothing says."""
    try:
        with open(path, "rb") as file:
            found = re.search(rb"^MemAvailable: +(\d+) kB$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) << 10 if found is not None else None


def keep_heap_small() -> None:
    """Have each large block mapped separately, so that freeing it returns it to the system.

    glibc stops doing so once such a block has been freed (mallopt(3), M_MMAP_THRESHOLD), and the
    tables of a large machine then leave a heap full of gaps.
    """
    with suppress(AttributeError):
        _libc.mallopt(_M_MMAP_THRESHOLD, 128 << 10)


def trim_heap() -> None:
    """Return freed memory to the system, if the C library can (glibc's malloc_trim(3))."""
    with suppress(AttributeError):
        _libc.malloc_trim(0)
