"""A FUSE file system of one file, ``ram``, that fails and hangs where it is told to.

    python badfs.py FILE CONTROL MOUNTPOINT

CONTROL is JSON, read for each request: ``{"eio": [[start, end]], "hang": [[start, end]]}``.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path

import pyfuse3
import trio

FILE = pyfuse3.InodeT(2)


class Bad(pyfuse3.Operations):
    def __init__(self, path: str, control: str) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_RDONLY)
        self._control = Path(control)

    def _touches(self, what: str, start: int, end: int) -> bool:
        ranges = json.loads(self._control.read_text()).get(what, [])
        return any(start < last and first < end for first, last in ranges)

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = stat.S_IFREG | 0o400 if inode == FILE else stat.S_IFDIR | 0o500
        entry.st_size = os.fstat(self._fd).st_size if inode == FILE else 0
        return entry

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if name != b"ram":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(FILE, ctx)

    async def open(
        self, inode: pyfuse3.InodeT, flags: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(1))

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        while self._touches("hang", off, off + size):  # noqa: ASYNC110  # told by another process
            await trio.sleep(0.05)
        if self._touches("eio", off, off + size):
            raise pyfuse3.FUSEError(errno.EIO)
        return os.pread(self._fd, size, off)


def main() -> None:
    path, control, mountpoint = sys.argv[1:]
    pyfuse3.init(Bad(path, control), mountpoint, {"fsname=badfs", "subtype=badfs"})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
