"""What is to be saved, before any format: the pages, their kinds, and where bytes come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.formats.kdump.headers import KdumpHeaders
from vmcorefs.core.pages.selection import PageKinds
from vmcorefs.core.space.ranges import Ranges
from vmcorefs.reader import Reader
from vmcorefs.save.origin import Origin


class Triage(msgspec.Struct, frozen=True):
    """What a triage dump holds: the pages that a report is made of.

    Attributes:
        pages: Their physical addresses, whole pages, a normal set.
        contents: How many pages there are for each thing.
    """

    pages: Ranges
    contents: Mapping[str, int]


class Dump(msgspec.Struct, frozen=True):
    """A dump before it has a format.

    Attributes:
        ram: Physical ranges of the vmcore's PT_LOADs, a normal set in bytes; they may begin and
            end within a page. A page is present if any byte of it is in here.
        memory: Reads the crashed kernel's memory by physical address.
        kinds: What each page was used for.
        level: The dump level.
        notes: The vmcore's whole PT_NOTE.
        vmcoreinfo: Its VMCOREINFO, or None.
        elfcorehdr: The vmcore's headers: machine, and where each PT_LOAD was mapped.
        origin: Which bytes its memory is.
        told: The headers of the kdump-compressed dump that its memory is in, if it is in one.
        triage: What it holds, if it is a triage dump: what else is RAM, ``memory`` has as EXCLUDED.
    """

    ram: Ranges
    memory: Reader
    kinds: PageKinds
    level: int
    notes: bytes
    vmcoreinfo: Vmcoreinfo | None
    elfcorehdr: Elfcorehdr
    origin: Origin = Origin()
    told: KdumpHeaders | None = None
    triage: Triage | None = None


class Output(Protocol):
    """Where a format puts its bytes: a file, or makedumpfile's flattened stream around one."""

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Put all of ``data`` at ``offset`` of the dump; in any order, and twice if need be.

        Raises:
            OutputError: if that fails.
        """


class Observer(Protocol):
    """Follows how far the writing is; called from one thread."""

    def pages(self, done: int, total: int) -> None:
        """``done`` of ``total`` pages that are kept have been dealt with."""

    def needs(self, sizes: Sequence[int], what: str) -> None:
        """Each output will get so many bytes at least; nothing has been written yet.

        Raises:
            DiskFullError: if there is surely no room for them; it says for ``what``.
        """

    def compared(self, done: int, total: int) -> None:
        """``done`` of ``total`` pages that an earlier try wrote have been compared."""

    def lost(self, paddr: int, size: int, reason: str) -> None:
        """These bytes could not be read: the dump says that they are not in it."""
