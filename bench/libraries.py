"""Reads physical memory through another project's library, as ``reader.c`` reads a file.

::

    python -m bench.libraries LIBRARY FILE seq SIZE 0 START-END...        all, SIZE bytes at a time
    python -m bench.libraries LIBRARY FILE random COUNT SEED START-END... COUNT pages of 4096 bytes
    python -m bench.libraries LIBRARY FILE sum COUNT SEED START-END...    a checksum of such pages

The ranges are physical addresses in hex, half open. A pass is made twice with the file open, and
for each there is a line: wall clock seconds, the process's CPU seconds, bytes; for ``sum`` there is
one line with the checksum. What a library needs to open the file is not in the figures.

LIBRARY is ``leechcore`` (leechcorepyc: MemProcFS's way to memory), ``libkdumpfile``, or ``preadv``,
which is no library: what a raw image costs from Python, and so what is Python's part in the others.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np

PAGE = 4096
LARGEST = 1 << 24

Read = Callable[[int, int], "bytes | memoryview"]
"""``read(paddr, size)``: what was read there; a view is overwritten by the next call."""

Ranges = list[tuple[int, int]]

_KDUMP_MACHPHYSADDR = 1


def open_image(path: str) -> Read:
    """Read a raw image whose offsets are physical addresses, as plainly as Python can."""
    file = os.open(path, os.O_RDONLY)
    buffer = memoryview(bytearray(LARGEST))

    def read(paddr: int, size: int) -> memoryview:
        return buffer[: os.preadv(file, [buffer[:size]], paddr)]

    return read


def open_leechcore(path: str) -> Read:
    """LeechCore's file device."""
    try:
        import leechcorepyc  # noqa: PLC0415 - the other libraries do without
    except ImportError as error:
        sys.exit(
            f"{error}: pip install leechcorepyc; it is among the extra 'test' of pyproject.toml"
        )
    device = leechcorepyc.LeechCore(f"file://{path}")
    read: Read = device.read
    return read


def open_libkdumpfile(path: str) -> Read:
    """``kdump_read`` of machine physical addresses (libkdumpfile/kdumpfile.h, soname 10).

    Called itself, as Debian's Python binding is for Debian's Python alone.
    """
    try:
        library = ctypes.CDLL("libkdumpfile.so.10")
    except OSError as error:
        sys.exit(f"{error}: apt-get install libkdumpfile10")
    library.kdump_new.restype = ctypes.c_void_p
    library.kdump_get_err.restype = ctypes.c_char_p
    library.kdump_read.argtypes = (
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_size_t),
    )
    context = ctypes.c_void_p(library.kdump_new())
    file = (ctypes.c_int * 1)(os.open(path, os.O_RDONLY))
    if library.kdump_open_fdset(context, 1, file):
        sys.exit(f"{path}: libkdumpfile: {library.kdump_get_err(context)}")
    buffer = ctypes.create_string_buffer(LARGEST)
    view = memoryview(buffer).cast("B")
    length = ctypes.c_size_t()
    reference = ctypes.byref(length)

    def read(paddr: int, size: int) -> memoryview:
        length.value = size
        if library.kdump_read(context, _KDUMP_MACHPHYSADDR, paddr, buffer, reference):
            raise OSError(f"{path}: {paddr:#x}: {library.kdump_get_err(context)}")
        return view[: length.value]

    return read


LIBRARIES = {"preadv": open_image, "leechcore": open_leechcore, "libkdumpfile": open_libkdumpfile}


def pieces(ranges: Ranges, size: int) -> Iterator[tuple[int, int]]:
    """All of the ranges, in order: address and bytes, ``size`` at most."""
    for start, end in ranges:
        for paddr in range(start, end, size):
            yield paddr, min(size, end - paddr)


def random_pages(ranges: Ranges, count: int, seed: int) -> list[tuple[int, int]]:
    """Whole pages in the ranges, drawn evenly: address and 4096."""
    table = np.array(ranges, dtype=np.int64)
    ends = np.cumsum((table[:, 1] - table[:, 0]) // PAGE)
    drawn = np.random.default_rng(seed).integers(ends[-1], size=count)
    rows = np.searchsorted(ends, drawn, side="right")
    paddrs = table[rows, 1] - (ends[rows] - drawn) * PAGE
    return [(paddr, PAGE) for paddr in paddrs.tolist()]


def time_pass(read: Read, places: list[tuple[int, int]]) -> str:
    """Read it all; ValueError if the library gives less than was asked for."""
    wall, used, done = time.perf_counter(), time.process_time(), 0
    for paddr, size in places:
        if len(read(paddr, size)) != size:
            raise ValueError(f"{paddr:#x}: less than {size} bytes were read")
        done += size
    return f"{time.perf_counter() - wall:.9f} {time.process_time() - used:.6f} {done}"


def main(library: str, path: str, mode: str, *arguments: str) -> None:
    amount, seed = int(arguments[0]), int(arguments[1])
    ranges = [
        (int(start, 16), int(end, 16)) for start, end in (word.split("-") for word in arguments[2:])
    ]
    read = LIBRARIES[library](path)
    places = list(pieces(ranges, amount)) if mode == "seq" else random_pages(ranges, amount, seed)
    if mode == "sum":
        total = 0
        for paddr, size in places:
            total = zlib.crc32(read(paddr, size), total)
        print(total)
    else:
        print(time_pass(read, places))
        print(time_pass(read, places))


if __name__ == "__main__":
    main(*sys.argv[1:])
