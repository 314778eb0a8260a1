"""Mount a FUSE file over /proc/vmcore that is the same but for pages that cannot be read.

    fault.py PADDR SIZE

Reads that touch physical memory [PADDR, PADDR + SIZE) are EIO, wherever the vmcore has that memory;
all others are answered from the true file. It knows nothing of vmcorefs but the library, pyfuse3.
"""

# ruff: noqa: INP001  # a program of the guest, no module
from __future__ import annotations

import errno
import os
import stat
import struct
import sys

import pyfuse3
import trio

VMCORE = "/proc/vmcore"


def bad_ranges(file: int, paddr: int, size: int) -> list[tuple[int, int]]:
    """Where in the file the bad memory lies: half-open ranges, of each PT_LOAD that has it."""
    header = os.pread(file, 64, 0)
    (phoff,) = struct.unpack_from("<Q", header, 32)
    entry_size, count = struct.unpack_from("<HH", header, 54)
    ranges = []
    for index in range(count):
        entry = os.pread(file, entry_size, phoff + index * entry_size)
        kind, _, offset, _, start, filesz = struct.unpack_from("<IIQQQQ", entry)
        first, last = max(start, paddr), min(start + filesz, paddr + size)
        if kind == 1 and first < last:
            ranges.append((offset + first - start, offset + last - start))
    return ranges


class Faulty(pyfuse3.Operations):
    def __init__(self, file: int, bad: list[tuple[int, int]]) -> None:
        super().__init__()
        self.file, self.bad = file, bad

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = stat.S_IFREG | 0o400
        entry.st_nlink = 1
        entry.st_size = os.fstat(self.file).st_size
        entry.attr_timeout = 3600
        return entry

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(1), keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        if any(start < off + size and off < end for start, end in self.bad):
            raise pyfuse3.FUSEError(errno.EIO)
        return os.pread(self.file, size, off)


def main() -> None:
    file = os.open(VMCORE, os.O_RDONLY)
    bad = bad_ranges(file, int(sys.argv[1], 0), int(sys.argv[2], 0))
    sys.stdout.write(" ".join(["LAB-BAD", *(f"{start:#x}-{end:#x}" for start, end in bad)]) + "\n")
    sys.stdout.flush()
    # on a file, not a directory: the root of this file system is the file
    pyfuse3.init(Faulty(file, bad), VMCORE, {"fsname=fault"})
    trio.run(pyfuse3.main)


if __name__ == "__main__":
    main()
