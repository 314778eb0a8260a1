"""pyfuse3's request handlers: they translate, and nothing else.

No handler waits for a disk on trio's thread: a read is first tried with what is at hand
(``RWF_NOWAIT``), and only if that fails handed to a worker thread, as a hop for every read halves
the throughput. Only ``FUSEError`` may leave a handler; anything else would end the daemon, so what
is not one of our own errors is logged with its traceback and becomes EIO.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import numpy as np
import pyfuse3
import trio

from vmcorefs.errors import FaultError, VmcorefsError
from vmcorefs.fuse.inodes import Inode, number_inodes
from vmcorefs.tree.file import TreeFile

log = logging.getLogger(__name__)

_TIMEOUT = 86400.0
"""Seconds that the kernel may keep names and attributes: they never change."""

_BUFFER_SIZE = 1 << 20
"""Longest read that the kernel sends by default: 256 pages (include/uapi/linux/fuse.h)."""

_SPARE_BUFFERS = 8


class TreeOperations(pyfuse3.Operations):
    """The handlers of one mounted tree."""

    def __init__(self, tree: Mapping[str, TreeFile], *, time: float, others_may_read: bool) -> None:
        """Prepare the handlers.

        Args:
            tree: The files by path.
            time: Of every file, in seconds since 1970.
            others_may_read: Give files the mode 0444 in place of 0400.
        """
        super().__init__()
        self._inodes = number_inodes(tree)
        self._time_ns = int(time * 1_000_000_000)
        self._others = others_may_read
        self._buffers: list[memoryview] = []
        self._reported: set[tuple[str, int]] = set()

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        return await self._attributes(self._inode(inode))

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._inode(parent_inode)
        text = os.fsdecode(name)
        if text == ".":
            return await self._attributes(parent)
        number = parent.parent if text == ".." else parent.children.get(text)
        if number is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self._attributes(self._inodes[number])

    async def opendir(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileHandleT:
        return self._inode(inode).number

    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        entries = list(self._inode(fh).children.items())
        for position, (name, number) in enumerate(entries[start_id:], start_id + 1):
            attributes = self._listed_attributes(self._inodes[number])
            if not pyfuse3.readdir_reply(token, os.fsencode(name), attributes, position):
                return

    async def open(
        self, inode: pyfuse3.InodeT, flags: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        # keep_cache: the bytes never change, and makedumpfile and gdb map the file
        return pyfuse3.FileInfo(fh=self._inode(inode).number, keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        file = self._inode(fh).file
        if file is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        await self._make(file)
        count = max(min(size, file.size - off), 0)
        buffer = self._buffers.pop() if self._buffers else _aligned_buffer(_BUFFER_SIZE)
        view = buffer[:count] if count <= len(buffer) else memoryview(bytearray(count))
        try:
            with self._translated_errors(file, off):
                try:
                    file.reader.pread_into(off, view, nowait=True)
                except BlockingIOError:
                    await trio.to_thread.run_sync(file.reader.pread_into, off, view)
        finally:
            # pyfuse3 sends what is returned before it lets another handler run
            # (fuse_read_async), so the buffer is free again by the time anyone can take it
            if len(self._buffers) < _SPARE_BUFFERS:
                self._buffers.append(buffer)
        # any contiguous buffer is sent as it is; only the annotation asks for bytes
        return cast("bytes", view)

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        result = pyfuse3.StatvfsData()
        result.f_bsize = result.f_frsize = 4096
        result.f_namemax = 255
        result.f_files = len(self._inodes)
        return result

    def _inode(self, number: int) -> Inode:
        inode = self._inodes.get(number)
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return inode

    async def _attributes(self, inode: Inode) -> pyfuse3.EntryAttributes:
        if inode.file is not None:
            await self._make(inode.file)
        return self._listed_attributes(inode)

    async def _make(self, file: TreeFile) -> None:
        if not file.is_made:
            with self._translated_errors(file, 0):
                await trio.to_thread.run_sync(file.make)

    def _listed_attributes(self, inode: Inode) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode.number
        attributes.entry_timeout = attributes.attr_timeout = _TIMEOUT
        attributes.st_uid, attributes.st_gid = os.getuid(), os.getgid()
        attributes.st_atime_ns = attributes.st_ctime_ns = attributes.st_mtime_ns = self._time_ns
        attributes.st_blksize = 4096
        if inode.file is None:
            attributes.st_mode = stat.S_IFDIR | (0o555 if self._others else 0o500)
            attributes.st_nlink = 2
            return attributes
        attributes.st_mode = stat.S_IFREG | (0o444 if self._others else 0o400)
        attributes.st_nlink = 1
        if not inode.file.is_made:
            # making it may take long, or fail: a listing gives its name, and the kernel asks again
            # for the size as soon as somebody wants that
            attributes.entry_timeout = attributes.attr_timeout = 0
            return attributes
        attributes.st_size = inode.file.size
        # never fewer than the size: tar takes a file of no blocks for one of zeros
        attributes.st_blocks = -(-attributes.st_size // 512)
        return attributes

    @contextmanager
    def _translated_errors(self, file: TreeFile, offset: int) -> Iterator[None]:
        try:
            yield
        except VmcorefsError as error:
            self._report(file, offset, error)
            raise pyfuse3.FUSEError(error.errno) from error
        except Exception as error:
            log.exception("%s: read at %#x: a bug in vmcorefs", file.path, offset)
            raise pyfuse3.FUSEError(errno.EIO) from error

    def _report(self, file: TreeFile, offset: int, error: VmcorefsError) -> None:
        # once for each extent: a reader that goes on page by page would fill the log
        key = (file.path, file.reader.row_of(offset) if file.is_made else -1)
        if key not in self._reported:
            self._reported.add(key)
            # a debugger walks off the end of a stack in kcore as a matter of course
            is_hole = isinstance(error, FaultError) and error.kind == "hole"
            level = logging.INFO if is_hole else logging.ERROR
            log.log(level, "%s at %#x: %s", file.path, offset, error)


def _aligned_buffer(size: int) -> memoryview:
    # page-aligned: copies into a buffer at offset 16 of a page, where malloc puts large blocks,
    # run at a fifth of the speed on AMD's Zen 3
    block = np.empty(size + 4096, dtype=np.uint8)
    return block.data[-block.ctypes.data % 4096 :][:size]
