"""The result of a page table walk: runs of virtual memory, and what could not be followed."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.paging.formats import PageTableFormat
from vmcorefs.core.space.columns import BoolArray, Columns, run_edges
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.space.units import counted

UInt8Array = npt.NDArray[np.uint8]
UInt64Array = npt.NDArray[np.uint64]


class Reason(StrEnum):
    """Why a part of the tables was not followed."""

    UNREADABLE = "tables that no input holds"
    LOOP = "entries that name a table above their own"
    RESERVED = "entries that no CPU accepts"
    MISALIGNED = "large pages at addresses that are not aligned"
    TOO_MANY_TABLES = "tables beyond the limit"
    TOO_MANY_RUNS = "runs beyond the limit"


_ONE = {
    Reason.UNREADABLE: "table that no input holds",
    Reason.LOOP: "entry that names a table above its own",
    Reason.RESERVED: "entry that no CPU accepts",
    Reason.MISALIGNED: "large page at an address that is not aligned",
    Reason.TOO_MANY_TABLES: "table beyond the limit",
    Reason.TOO_MANY_RUNS: "run beyond the limit",
}


class Problem(msgspec.Struct, frozen=True):
    """The entries or tables that were not followed, for one reason.

    Attributes:
        reason: Why.
        count: How many; beyond a limit, only those that were seen.
        examples: The first of them, ``(vaddr, paddr)`` each, unsigned: the start of the range that
            is lost, and the address of the table or page.
    """

    reason: Reason
    count: int
    examples: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        vaddr, paddr = self.examples[0]
        what = counted(self.count, _ONE[self.reason], self.reason)
        return f"{what}, first at vaddr {vaddr:#x} (paddr {paddr:#x})"


class Runs(Columns, frozen=True, eq=False):
    """Pieces of virtual memory; the columns are those of ``Mappings``, in any order."""

    vaddr: Int64Array
    paddr: Int64Array
    size: Int64Array
    flags: UInt8Array

    def merged(self) -> Runs:
        """Join each row with the following ones that continue it in both address spaces."""
        if len(self) < 2:
            return self
        joins = (
            (self.vaddr[1:] == self.vaddr[:-1] + self.size[:-1])
            & (self.paddr[1:] == self.paddr[:-1] + self.size[:-1])
            & (self.flags[1:] == self.flags[:-1])
            & (self.vaddr[1:] != 0)  # where the kernel's half ends and the user's begins
        )
        first, last = run_edges(joins)
        size = self.vaddr[last] + self.size[last] - self.vaddr[first]
        return replace(self.rows(first), size=size)


class Aliases(Columns, frozen=True, eq=False):
    """Ranges that show the content of another range again, through the same tables.

    Attributes:
        vaddr: First address of each range, shape ``(n,)``, int64, sorted, as in ``Mappings``.
        size: Bytes in each range, shape ``(n,)``, int64.
        of: First address of the range that it repeats, shape ``(n,)``, int64. That range may
            contain aliases in turn, but only smaller ones.
    """

    vaddr: Int64Array
    size: Int64Array
    of: Int64Array


class Mappings(msgspec.Struct, frozen=True, eq=False):
    """What page tables map, in maximal runs: contiguous in both spaces and of equal access.

    Virtual addresses are int64, signed: the canonical 64-bit address as two's complement. So the
    kernel's are negative, 0xffffffff80000000 is -0x80000000, and they sort as they should.
    ``vaddr.view(np.uint64)`` are the addresses as people write them.

    Attributes:
        fmt: The format of the tables.
        root: Physical address of the root.
        vaddr: First virtual address of each run, shape ``(n,)``, int64, sorted.
        paddr: First physical address of each run, shape ``(n,)``, int64.
        size: Bytes in each run, shape ``(n,)``, int64.
        flags: ``Access`` bits of each run, shape ``(n,)``, uint8.
        aliases: Ranges that repeat a part of the runs; they are not among the runs.
        problems: What was not followed, one for each reason.
        tables: How many tables were looked at.
    """

    fmt: PageTableFormat
    root: int
    vaddr: Int64Array
    paddr: Int64Array
    size: Int64Array
    flags: UInt8Array
    aliases: Aliases
    problems: tuple[Problem, ...]
    tables: int

    def __len__(self) -> int:
        return len(self.vaddr)

    @property
    def page_size(self) -> int:
        """Bytes in the smallest page."""
        return 1 << self.fmt.page_shift

    def translate(self, vaddr: int) -> int | None:
        """The physical address that ``vaddr``, signed or unsigned, maps to; None if unmapped."""
        if not -(1 << 63) <= vaddr < 1 << 64:
            return None
        paddr = int(self.translate_many(np.array([vaddr % (1 << 64)], dtype=np.uint64))[0])
        return paddr if paddr >= 0 else None

    def translate_many(self, vaddrs: Int64Array | UInt64Array) -> Int64Array:
        """The physical address that each virtual address maps to, int64; -1 where unmapped."""
        at: Int64Array = vaddrs.astype(np.int64)
        for _ in range(self.fmt.levels):  # an alias within an alias is a level further down
            row, held = _find(self.aliases.vaddr, self.aliases.size, at)
            at[held] += (self.aliases.of - self.aliases.vaddr)[row]
        row, held = _find(self.vaddr, self.size, at)
        paddrs = np.full(len(at), -1, dtype=np.int64)
        paddrs[held] = at[held] + (self.paddr - self.vaddr)[row]
        return paddrs


def _find(
    start: Int64Array, size: Int64Array, addresses: Int64Array
) -> tuple[Int64Array, BoolArray]:
    """Which addresses are within a row, shape of ``addresses``, and the row of each that is."""
    row = np.searchsorted(start, addresses, side="right") - 1
    inside = row >= 0
    # compared with the end: the distance to a far address would wrap
    inside[inside] = addresses[inside] < (start + size)[row[inside]]
    return row[inside], inside
