"""Answering reads of the tree's files, each by the plane that serves the file."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator, Mapping

import numpy as np

from vmcorefs.core.space.extents import Kind
from vmcorefs.errors import SourceIOError, VmcorefsError
from vmcorefs.fuse import wire
from vmcorefs.fuse.deadlines import HungReads, Pending
from vmcorefs.fuse.faults import FaultLog, input_names
from vmcorefs.fuse.inodes import Inode
from vmcorefs.fuse.planes.choose import PLANES, SMALL, OpenBacking, PlaneName, Served, choose_plane
from vmcorefs.fuse.planes.mapping import Mapping as FileMapping
from vmcorefs.fuse.planes.seek import Seeker
from vmcorefs.sources.base import Source
from vmcorefs.system.memory import trim_heap
from vmcorefs.tree.file import TreeFile

log = logging.getLogger(__name__)

_BUFFER_SIZE = 1 << 20
"""Longest read that the kernel sends by default: 256 pages (include/uapi/linux/fuse.h)."""
_MAPPED_FROM = 128 << 10
"""Shorter reads come from the inputs: the faults of a mapping cost more than one copy."""
_PAGE = 4096


class FileAnswers:
    """Answers the reads of a tree, from any number of threads at once."""

    def __init__(
        self, inodes: Mapping[int, Inode], best: PlaneName, *, may_wait: bool = False
    ) -> None:
        """Prepare to answer.

        Args:
            inodes: The tree.
            best: Use no better plane than this.
            may_wait: Readers may wait forever for an input that does not answer.
        """
        self.open_backing: OpenBacking = _no_backing
        self._inodes = inodes
        self._best = best
        self._may_wait = may_wait
        self._served: dict[int, Served] = {}
        self._seekers: dict[int, Seeker] = {}
        # one per file: an input that hangs must not keep other files from being opened
        self._choosing: dict[int, threading.Lock] = {}
        self._buffers: list[memoryview] = []
        self._hung = HungReads()
        self._taken_back: set[int] = set()
        self.faults = FaultLog(self._find_paddr)

    def choose(self, node: int) -> Served:
        """Choose the plane of a file when it is opened; it is kept for as long as it works.

        The file is made if that has not been done yet; exceptions of that are passed on.
        """
        file = self._file(node)
        file.make()
        with self._choosing.setdefault(node, threading.Lock()):
            served = self._served.get(node)
            if served is None:
                return self._choose(node, file, self._best, "not asked for (-o)")
            if served.backing and served.has_shrunk:
                # the kernel would show a shorter file, without an error for the lost bytes
                self._taken_back.add(node)
                best = max(self._best, "mapped", key=PLANES.index)
                return self._choose(node, file, best, "an input has shrunk")
            return served

    def _choose(self, node: int, file: TreeFile, best: PlaneName, why_no_better: str) -> Served:
        served = choose_plane(file, best, self.open_backing, why_no_better, may_wait=self._may_wait)
        self._served[node] = served
        trim_heap()  # choosing may have copied tables of a million rows
        level = logging.INFO if file.size >= SMALL else logging.DEBUG
        log.log(level, "%s: %s plane, %s", file.path, served.plane, served.by)
        for reason in served.why_not:
            log.info("%s: not better: %s", file.path, reason)
        return served

    def describe(self, node: int) -> dict[str, object]:
        """How a file is served, for ``layout.json``."""
        return self.choose(node).describe()

    def take_back(self, source: Source) -> list[int]:
        """Take back the files whose reads the kernel passes to an input that has shrunk.

        Returns:
            Their nodes, including those taken back when they were opened since the last call. Open
            descriptors show a shorter file until they are made to fail.
        """
        for node, served in list(self._served.items()):
            if served.backing and source in self._file(node).reader.sources:
                self.choose(node)
        nodes = []
        while self._taken_back:  # one by one: opening a file may add another meanwhile
            nodes.append(self._taken_back.pop())
        return nodes

    def lost_by(self, source: Source, size: int) -> Iterator[tuple[str, int, int]]:
        """What the files lose if an input has only ``size`` bytes left.

        Yields:
            For each file that has been made: its path, the first offset lost, and bytes lost.
        """
        for inode in list(self._inodes.values()):  # files may be found meanwhile
            file = inode.file
            if file is None or not file.is_made or source not in file.reader.sources:
                continue
            number = file.reader.sources.index(source)
            table = file.reader.table.only(Kind.DATA)
            table = table.rows(table.source == number)
            kept = np.clip(size - table.offset, 0, table.size)
            lost = table.size - kept
            if lost.any():
                row = int(np.argmax(lost > 0))
                yield file.path, int(table.start[row] + kept[row]), int(lost.sum())

    def backing_of(self, node: int) -> int:
        """See ``switch.Answers``."""
        served = self._served.get(node)
        return served.backing if served is not None else 0

    def seek(self, node: int, offset: int, whence: int) -> int:
        """See ``switch.Answers``."""
        seeker = self._seekers.get(node)
        if seeker is None:
            seeker = self._seekers.setdefault(node, Seeker(self._file(node).reader))
        return seeker.seek(offset, whence)

    def give_up(self, late: Pending, seconds: float) -> None:
        """See ``switch.Answers``."""
        file = self._file(late.node)
        self._hung.add(late, input_names(file, late.offset, late.size))
        self.faults.give_up(file, late.offset, late.size, seconds)

    def came_back(self, late: Pending) -> None:
        """See ``switch.Answers``."""
        self._hung.remove(late)

    def out_of_memory(self) -> None:
        """See ``switch.Answers``."""
        self.faults.out_of_memory()

    def read_at_once(self, device: int, unique: int, node: int, offset: int, size: int) -> bool:
        """See ``switch.Answers``."""
        file = self._file(node)
        count = min(size, file.size - offset)
        if not 0 < count < _MAPPED_FROM:
            return False
        buffer = self._take_buffer()
        try:
            piece = buffer[:count]
            if not file.reader.pread_cached(offset, piece):
                return False
            os.writev(device, (wire.OUT_HEADER.pack(16 + count, 0, unique), piece))
        finally:
            self._buffers.append(buffer)
        return True

    def read(  # in the path of every read: plain arguments, nothing wrapped
        self, device: int, unique: int, node: int, offset: int, size: int, *, direct: bool
    ) -> None:
        """See ``switch.Answers``."""
        file = self._file(node)
        count = max(min(size, file.size - offset), 0)
        if self._hung and self._hung.blocks(node, offset, count, input_names(file, offset, count)):
            _refuse(device, unique, errno.EIO)
            return
        served = self._served[node]
        mapping = served.mapping
        if (
            mapping is not None
            and count >= _MAPPED_FROM
            and not served.has_shrunk
            and mapping.holds(offset, count)
        ):
            self._read_mapped(device, unique, file, mapping, offset, count)
        else:
            self._read_plain(device, unique, file, offset, count, direct=direct)

    def _read_mapped(
        self,
        device: int,
        unique: int,
        file: TreeFile,
        mapping: FileMapping,
        offset: int,
        count: int,
    ) -> None:
        piece = mapping.view[offset : offset + count]
        try:
            os.writev(device, (wire.OUT_HEADER.pack(16 + count, 0, unique), piece))
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            # a page has vanished since: the kernel itself has answered EIO (fuse_dev_do_write)
            self._explain(file, offset, count)
        else:
            mapping.served(count)

    def _read_plain(
        self, device: int, unique: int, file: TreeFile, offset: int, count: int, *, direct: bool
    ) -> None:
        buffer = self._take_buffer()
        piece = buffer[:count] if count <= len(buffer) else memoryview(bytearray(count))
        try:
            failed = self.try_read(file, offset, piece)
            if failed and direct:
                # as read(2) of any file: first the bytes before the fault, and the fault the next
                # time. For the page cache a short answer would be the end of the file
                piece = piece[: self._read_pages(file, offset, piece)]
                failed = 0 if len(piece) else failed
            if failed:
                _refuse(device, unique, failed)
            else:
                os.writev(device, (wire.OUT_HEADER.pack(16 + len(piece), 0, unique), piece))
        finally:
            self._buffers.append(buffer)

    def _take_buffer(self) -> memoryview:
        return self._buffers.pop() if self._buffers else _aligned_buffer(_BUFFER_SIZE)

    def _read_pages(self, file: TreeFile, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` up to the first page with an unreadable byte; return how far."""
        done = 0
        while done < len(buffer):
            step = min(_PAGE - (offset + done) % _PAGE, len(buffer) - done)
            if self.try_read(file, offset + done, buffer[done : done + step]):
                break
            done += step
        return done

    def try_read(self, file: TreeFile, offset: int, buffer: memoryview) -> int:
        """Read into ``buffer``; return 0, or an errno after logging the error."""
        try:
            file.reader.pread_into(offset, buffer)
        except VmcorefsError as error:
            self.faults.report(file, offset, error)
            return error.errno
        except MemoryError:
            self.faults.out_of_memory()
            return errno.EIO
        except Exception:
            log.exception("%s: read at %#x: a bug in vmcorefs", file.path, offset)
            return errno.EIO
        return 0

    def _explain(self, file: TreeFile, offset: int, count: int) -> None:
        if not self.try_read(file, offset, memoryview(bytearray(count))):
            log.error("%s at %#x: %d bytes could not be read", file.path, offset, count)

    def _find_paddr(self, error: SourceIOError, file: TreeFile, place: int) -> int | None:
        for inode in list(self._inodes.values()):  # files may be found meanwhile
            if inode.file is not None and inode.file.path == "oldmem":
                # an offset is an address
                since = place if inode.file is file else 0
                return inode.file.reader.address_of(error, since)
        return None

    def _file(self, node: int) -> TreeFile:
        file = self._inodes[node].file
        if file is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return file


def _refuse(device: int, unique: int, error: int) -> None:
    os.write(device, wire.OUT_HEADER.pack(wire.OUT_HEADER.size, -error, unique))


def _no_backing(_: int) -> int:
    raise OSError(errno.ENOSYS, "nothing is mounted")


def _aligned_buffer(size: int) -> memoryview:
    # page-aligned: copies into a buffer at offset 16 of a page, where malloc puts large blocks,
    # run at a fifth of the speed on AMD's Zen 3
    block = np.empty(size + 4096, dtype=np.uint8)
    return block.data[-block.ctypes.data % 4096 :][:size]
