"""The records of ``log_buf`` from 3.5 to 5.9, and the way on where one cannot be read.

Each record says how long it is, so what comes behind one that cannot be read is found by its form:
records that follow each other up to the newest, or up to the next gap (kernel/printk/printk.c,
``struct printk_log``).
"""

from __future__ import annotations

import msgspec

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.partial import Partial
from vmcorefs.errors import FormatError

_ALIGN = 4
"""``LOG_ALIGN``: what a record begins at a multiple of, at least."""

_MAX_TRIED = 1 << 18
"""Places that may be looked at in all, more than the records of any log."""

_SURE = 3
"""Records that follow each other before a gap: fewer may be text that looks like one."""


class Record(msgspec.Struct, frozen=True):
    """One record.

    Attributes:
        stamp: Its time in nanoseconds.
        text_size: Bytes of text behind its header; None if it only says that the next one is at
            the start of the buffer.
        following: Where the next one is.
    """

    stamp: int
    text_size: int | None
    following: int


class Records:
    """Reads records of a buffer.

    Attributes:
        header: Bytes in the header of a record.
    """

    def __init__(self, vmcoreinfo: Vmcoreinfo, memory: KernelMemory, buffer: Partial) -> None:
        name = "printk_log" if "SIZE(printk_log)" in vmcoreinfo.values else "log"
        self.header = vmcoreinfo.size(name)
        self._stamp_at, self._length_at, self._text_at = (
            vmcoreinfo.offset(f"{name}.{field}") for field in ("ts_nsec", "len", "text_len")
        )
        self._memory = memory
        self._buffer = buffer
        self._left = _MAX_TRIED

    def at(self, current: int) -> Record | None:
        """The record there, or None if its header could not be read.

        Raises:
            FormatError: if there can be none.
        """
        size = len(self._buffer)
        if current + self.header > size:
            raise FormatError(f"the log's record at {current:#x} ends past log_buf, {size:#x}")
        if not self._buffer.has(current, self.header):
            return None
        length = self._number(current + self._length_at, 2)
        if length == 0:  # the rest of the buffer was too short: the next record is at its start
            return Record(0, None, 0)
        if length < self.header:
            raise FormatError(f"the log's record at {current:#x} has {length} bytes")
        stamp = self._number(current + self._stamp_at, 8)
        return Record(stamp, self._number(current + self._text_at, 2), current + length)

    def _number(self, at: int, size: int) -> int:
        return self._memory.decode(self._buffer.data[at : at + size])

    def find(self, current: int, last: int) -> int:
        """Where the records go on behind one whose header could not be read; ``last`` if nowhere.

        Args:
            current: Where that one is.
            last: Behind the newest record.
        """
        end = last if last > current else len(self._buffer)
        known: set[int] = set()  # none of those leads on
        gaps = list(self._buffer.iter_gaps(current, end))
        for (_, behind), (before, _) in zip(gaps, (*gaps[1:], (end, end)), strict=True):
            for candidate in range(-(-behind // _ALIGN) * _ALIGN, before, _ALIGN):
                if self._left and self._leads_on(candidate, last, known):
                    return candidate
        return last if last > current else 0  # from the end of the buffer they go on at its start

    def _leads_on(self, candidate: int, last: int, known: set[int]) -> bool:
        """Whether there is a record there, which others follow up to the newest or the next gap."""
        here, count, wraps = candidate, 0, last < candidate
        while here != last:
            if here in known or (here > last and not wraps) or not self._left:
                return False
            known.add(here)
            self._left -= 1
            try:
                record = self._likely(here, may_wrap=wraps and count > 0)
            except FormatError:
                return False
            if record is None:
                return count >= _SURE
            wraps = wraps and record.text_size is not None
            here, count = record.following, count + 1
        return count > 0

    def _likely(self, here: int, *, may_wrap: bool) -> Record | None:
        """The record there, as ``at`` has it, if it has the form of one.

        Raises:
            FormatError: if it has not.
        """
        record = self.at(here)
        if record is None:
            return None
        if record.text_size is None:
            if not may_wrap:  # a word of zeros says the same
                raise FormatError("no record")
        elif here + self.header + record.text_size > record.following or record.following % _ALIGN:
            raise FormatError("no record")
        return record
