"""What reads of the tree's files are answered with, each by the plane that serves the file."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Mapping

import numpy as np

from vmcorefs.errors import FaultError, VmcorefsError
from vmcorefs.fuse import wire
from vmcorefs.fuse.inodes import Inode
from vmcorefs.fuse.planes.choose import (
    PLANES,
    SMALL,
    OpenBacking,
    PlaneName,
    Served,
    choose_plane,
)
from vmcorefs.fuse.planes.linux import trim_heap
from vmcorefs.fuse.planes.mapping import Mapping as FileMapping
from vmcorefs.fuse.planes.seek import seek
from vmcorefs.tree.file import TreeFile

log = logging.getLogger(__name__)

_BUFFER_SIZE = 1 << 20
"""Longest read that the kernel sends by default: 256 pages (include/uapi/linux/fuse.h)."""


class FileAnswers:
    """Answers the reads of a tree, from any number of threads at once."""

    def __init__(self, inodes: Mapping[int, Inode], best: PlaneName) -> None:
        """Prepare to answer.

        Args:
            inodes: The tree.
            best: Use no better plane than this.
        """
        self.open_backing: OpenBacking = _no_backing
        self._inodes = inodes
        self._best = best
        self._served: dict[int, Served] = {}
        self._choosing = threading.Lock()
        self._buffers: list[memoryview] = []
        self._reported: set[tuple[str, int]] = set()

    def choose(self, node: int) -> Served:
        """Choose the plane of a file when it is opened; the same for as long as it works.

        The file is made if it is not; what that raises is raised.
        """
        file = self._file(node)
        file.make()
        with self._choosing:
            served = self._served.get(node)
            if served is None:
                served = choose_plane(file, self._best, self.open_backing, "not asked for (-o)")
            elif served.has_shrunk:
                # the kernel would show a shorter file, and not that bytes are lost
                log.warning("%s: an input has shrunk; the kernel no longer serves it", file.path)
                best = max(self._best, "mapped", key=PLANES.index)
                served = choose_plane(file, best, self.open_backing, "an input has shrunk")
            else:
                return served
            self._served[node] = served
            trim_heap()  # tables of a million rows were turned over
        level = logging.INFO if file.size >= SMALL else logging.DEBUG
        log.log(level, "%s: %s plane, %s", file.path, served.plane, served.by)
        for reason in served.why_not:
            log.info("%s: not better: %s", file.path, reason)
        return served

    def describe(self, node: int) -> dict[str, object]:
        """How a file is served, as ``layout.json`` says it."""
        return self.choose(node).describe()

    def backing_of(self, node: int) -> int:
        """See ``switch.Answers``."""
        served = self._served.get(node)
        return served.backing if served is not None else 0

    def seek(self, node: int, offset: int, whence: int) -> int:
        """See ``switch.Answers``."""
        return seek(self._file(node).reader, offset, whence)

    def read(self, device: int, unique: int, node: int, offset: int, size: int) -> None:
        """See ``switch.Answers``."""
        served = self._served[node]
        if served.mapping is not None:
            self._read_mapped(device, unique, node, served.mapping, offset, size)
        else:
            self._read_plain(device, unique, self._file(node), offset, size)

    def _read_mapped(  # on the way of every read: nothing is wrapped up
        self, device: int, unique: int, node: int, mapping: FileMapping, offset: int, size: int
    ) -> None:
        piece = mapping.view[offset : offset + size]
        count = len(piece)
        try:
            os.writev(device, (wire.OUT_HEADER.pack(16 + count, 0, unique), piece))
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            # a page has vanished: the kernel has answered EIO itself (fuse_dev_do_write)
            self._explain(self._file(node), offset, count)
        else:
            mapping.served(count)

    def _read_plain(self, device: int, unique: int, file: TreeFile, offset: int, size: int) -> None:
        count = max(min(size, file.size - offset), 0)
        buffer = self._buffers.pop() if self._buffers else _aligned_buffer(_BUFFER_SIZE)
        piece = buffer[:count] if count <= len(buffer) else memoryview(bytearray(count))
        try:
            failed = self.try_read(file, offset, piece)
            if failed:
                os.write(device, wire.OUT_HEADER.pack(16, -failed, unique))
            else:
                os.writev(device, (wire.OUT_HEADER.pack(16 + count, 0, unique), piece))
        finally:
            self._buffers.append(buffer)

    def try_read(self, file: TreeFile, offset: int, buffer: memoryview) -> int:
        """Read into ``buffer``; return 0, or the errno of an error, which is logged."""
        try:
            file.reader.pread_into(offset, buffer)
        except VmcorefsError as error:
            self.report(file, offset, error)
            return error.errno
        except Exception:
            log.exception("%s: read at %#x: a bug in vmcorefs", file.path, offset)
            return errno.EIO
        return 0

    def _explain(self, file: TreeFile, offset: int, count: int) -> None:
        if not self.try_read(file, offset, memoryview(bytearray(count))):
            log.error("%s at %#x: %d bytes could not be read", file.path, offset, count)

    def report(self, file: TreeFile, offset: int, error: VmcorefsError) -> None:
        """Log an error of a read, once for each extent: a reader may go on page by page."""
        key = (file.path, file.reader.row_of(offset) if file.is_made else -1)
        if key not in self._reported:
            self._reported.add(key)
            # a debugger walks off the end of a stack in kcore as a matter of course, and the kernel
            # reads ahead into what was left out of a dump
            expected = isinstance(error, FaultError) and error.kind in ("hole", "excluded")
            level = logging.INFO if expected else logging.ERROR
            log.log(level, "%s at %#x: %s", file.path, offset, error)

    def _file(self, node: int) -> TreeFile:
        file = self._inodes[node].file
        if file is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return file


def _no_backing(_: int) -> int:
    raise OSError(errno.ENOSYS, "nothing is mounted")


def _aligned_buffer(size: int) -> memoryview:
    # page-aligned: copies into a buffer at offset 16 of a page, where malloc puts large blocks,
    # run at a fifth of the speed on AMD's Zen 3
    block = np.empty(size + 4096, dtype=np.uint8)
    return block.data[-block.ctypes.data % 4096 :][:size]
