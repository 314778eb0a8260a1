"""pyfuse3's request handlers: they only translate.

Reads do not come here: the switch answers them (``fuse/switch.py``). Making a file may take long
and is done in a thread. A handler may raise only ``FUSEError``, as anything else would end the
daemon: exceptions that are not our own errors are logged with a traceback and become EIO.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import pyfuse3

from vmcorefs.errors import VmcorefsError
from vmcorefs.fuse.answers import FileAnswers
from vmcorefs.fuse.inodes import Inode, number_files
from vmcorefs.fuse.jobs import Jobs
from vmcorefs.fuse.planes.choose import Served
from vmcorefs.tree.file import TreeFile

log = logging.getLogger(__name__)

_TIMEOUT = 86400.0
"""Seconds that the kernel may keep names and attributes: they never change."""


class TreeOperations(pyfuse3.Operations):
    """The handlers of one mounted tree."""

    def __init__(
        self,
        inodes: dict[int, Inode],
        answers: FileAnswers,
        *,
        time: float,
        others_may_read: bool,
        direct_io: bool,
        timeout: float,
    ) -> None:
        """Prepare the handlers.

        Args:
            inodes: The tree; files that are found later are added.
            answers: Answers the reads; it chooses a file's plane when the file is opened.
            time: Of every file, in seconds since 1970.
            others_may_read: Give files the mode 0444 instead of 0400.
            direct_io: Keep reads out of the page cache.
            timeout: Seconds that making or opening a file may take before that is an error; 0 for
                any time. The work goes on, and may be done at the next attempt.
        """
        super().__init__()
        self._inodes = inodes
        self._answers = answers
        self._time_ns = int(time * 1_000_000_000)
        self._others = others_may_read
        self._direct_io = direct_io
        self._making: Jobs[None] = Jobs(timeout)
        self._opening: Jobs[Served] = Jobs(timeout)
        self._finding: Jobs[Mapping[str, TreeFile]] = Jobs(timeout)

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
        await self._find_files(parent)
        number = parent.parent if text == ".." else parent.children.get(text)
        if number is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self._attributes(self._inodes[number])

    async def opendir(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileHandleT:
        found = self._inode(inode)
        await self._find_files(found)
        return found.number

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
        found = self._inode(inode)
        if found.file is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        with self._translated_errors(found.file.path, partial(self._report, found.file)):
            choose = partial(self._answers.choose, found.number)
            served = await self._opening.run(found.number, choose)
        # a file that the kernel serves must not be cached twice; one that it cannot open with
        # O_DIRECT is then served by the daemon
        by_daemon = bool(flags & os.O_DIRECT) and bool(served.backing) and not served.backs_direct
        direct = self._direct_io or by_daemon
        # keep_cache: the bytes never change, and makedumpfile and gdb map the file
        return pyfuse3.FileInfo(fh=found.number, keep_cache=not direct, direct_io=direct)

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

    async def _find_files(self, inode: Inode) -> None:
        """Find the files of a directory whose files have not been asked for before."""
        directory = inode.directory
        if directory is None:
            return

        def report(error: VmcorefsError) -> None:
            log.error("%s: its files cannot be found: %s", directory.path, error)

        with self._translated_errors(directory.path, report):
            files = await self._finding.run(inode.number, lambda: directory.files)
        if inode.directory is not None:  # others may have waited for the same
            number_files(self._inodes, inode, files.values())

    async def _attributes(self, inode: Inode) -> pyfuse3.EntryAttributes:
        file = inode.file
        if file is not None and not file.is_measured and not file.is_sized_late:
            with self._translated_errors(file.path, partial(self._report, file)):
                await self._making.run(inode.number, file.measure)
        return self._listed_attributes(inode)

    def _listed_attributes(self, inode: Inode) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode.number
        attributes.generation = inode.generation
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
        if not inode.file.is_measured:
            # to find it out may take long, or fail: a listing has just its name, and the kernel
            # asks again for the size when that is needed, or once the file is open
            attributes.entry_timeout = attributes.attr_timeout = 0
            return attributes
        attributes.st_size = inode.file.size
        # never less than the size: tar takes a file without blocks for one of zeros
        attributes.st_blocks = -(-attributes.st_size // 512)
        return attributes

    def _report(self, file: TreeFile, error: VmcorefsError) -> None:
        self._answers.faults.report(file, 0, error)

    @contextmanager
    def _translated_errors(
        self, path: str, report: Callable[[VmcorefsError], None]
    ) -> Iterator[None]:
        try:
            yield
        except VmcorefsError as error:
            report(error)
            raise pyfuse3.FUSEError(error.errno) from error
        except TimeoutError as error:
            log.error("%s: cannot be opened yet: %s", path, error)  # noqa: TRY400
            raise pyfuse3.FUSEError(errno.EIO) from error
        except MemoryError as error:
            self._answers.faults.out_of_memory()
            raise pyfuse3.FUSEError(errno.EIO) from error
        except Exception as error:
            log.exception("%s: a bug in vmcorefs", path)
            raise pyfuse3.FUSEError(errno.EIO) from error
