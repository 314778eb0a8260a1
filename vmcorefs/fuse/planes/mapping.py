"""A file as one mapping: its sources' pages side by side, so that a reply is one slice.

Only the kernel may touch the bytes: it copies them from the mapping into a reply, and a page that
has vanished ends as EFAULT there. Python code that looked at one would end in SIGBUS.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Self

from vmcorefs.core.space.extents import Kind
from vmcorefs.fuse.planes import linux
from vmcorefs.fuse.planes.pages import PAGE, Pages

_READ_FIXED = linux.MAP_FIXED | linux.MAP_NORESERVE
_FORGET_AFTER = 16 << 20
"""Bytes after which served pages are dropped: they would count as the daemon's memory."""
_FAULT_AROUND = 65536
"""Bytes that one fault maps (/sys/kernel/debug/fault_around_bytes): the cost of a short read."""


class Mapping:
    """A file mapped from its sources.

    Attributes:
        view: Its bytes, ``size`` of them. It may be sliced, and handed to a system call; it must
            never be read from Python.
    """

    def __init__(
        self, pages: Pages, descriptors: dict[int, int], read: Callable[[int, int], bytes]
    ) -> None:
        """Map the file.

        Args:
            pages: The file.
            descriptors: For each source that is shown, its opened file.
            read: Reads ``size`` bytes of the file from ``offset`` on, called as
                ``read(size, offset)``, for what must be copied.

        Raises:
            OSError: if the kernel refuses a mapping.
            VmcorefsError: whatever ``read`` raises.
        """
        self._span = max(int(pages.table.end[-1]), PAGE)
        # the rest stays reserved and faults, as bytes that no input holds must
        self._address = linux.map_memory(
            0,
            self._span,
            linux.PROT_NONE,
            linux.MAP_PRIVATE | linux.MAP_ANONYMOUS | linux.MAP_NORESERVE,
        )
        try:
            self._map_rows(pages, descriptors, read)
        except BaseException:
            linux.unmap_memory(self._address, self._span)
            raise
        linux.leave_out_of_dumps(self._address, self._span)
        block = (ctypes.c_char * pages.size).from_address(self._address)
        self.view = memoryview(block).cast("B").toreadonly()
        self._served = 0

    def _map_rows(
        self, pages: Pages, descriptors: dict[int, int], read: Callable[[int, int], bytes]
    ) -> None:
        table = pages.table
        columns = (table.start, table.size, table.offset, table.source, table.kind)
        with _Copies() as copies:
            for start, size, offset, source, kind in zip(
                *(column.tolist() for column in columns), strict=True
            ):
                if kind == Kind.DATA:
                    self._map(start, size, linux.MAP_PRIVATE, descriptors[source], offset)
                elif kind == Kind.ZERO:
                    self._map(start, size, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS, -1, 0)
                elif kind == Kind.HOLE:
                    held = min(size, pages.size - start)
                    at = copies.append(read(held, start), size)
                    self._map(start, size, linux.MAP_SHARED, copies.descriptor, at)

    def _map(self, start: int, size: int, flags: int, descriptor: int, offset: int) -> None:
        linux.map_memory(
            self._address + start, size, linux.PROT_READ, flags | _READ_FIXED, descriptor, offset
        )

    def holds(self, offset: int, count: int) -> bool:
        """Have the kernel read a part; return whether it could.

        So a hanging disk is waited for here, not while the reply is written, when the request can
        no longer be given up; and unreadable pages are found before a byte is written. Before
        Linux 5.14, which has no such call, the write of the reply finds them.
        """
        if not linux.can_populate():
            return True
        start = offset // PAGE * PAGE
        try:
            linux.populate_pages(self._address + start, -(-(offset + count - start) // PAGE) * PAGE)
        except OSError:
            return False
        return True

    def served(self, count: int) -> None:
        """Count ``count`` served bytes, and drop pages now and then."""
        self._served += max(count, _FAULT_AROUND)
        if self._served >= _FORGET_AFTER:
            self._served = 0
            linux.forget_pages(self._address, self._span)


class _Copies:
    """Memory for the pages that are copied; mappings of it outlive it."""

    def __enter__(self) -> Self:
        self.descriptor = os.memfd_create("vmcorefs pages", os.MFD_CLOEXEC)
        self._end = 0
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def append(self, data: bytes, size: int) -> int:
        """Append ``data``, padded with zeros to ``size``; return where it is."""
        at, self._end = self._end, self._end + size
        os.ftruncate(self.descriptor, self._end)
        os.pwrite(self.descriptor, data, at)
        return at
