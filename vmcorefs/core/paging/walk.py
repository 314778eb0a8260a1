"""Page tables, walked level by level in numpy: from the root to arrays of runs.

Each step handles all tables of a level at once. Nothing recurses, so a table that names itself ends
with the last level. Everything that may grow is bounded: tables, runs, and how many uses of one
table are followed, because the kernel itself uses some tables thousands of times. KASAN's zero
shadow is one page under one table of each level (mm/kasan/init.c), billions of runs; espfix
(arch/x86/kernel/espfix_64.c) is 65536. Beyond ``Limits.repeats`` they become ``Aliases``, and
nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from vmcorefs.core.paging.formats import ALL_ACCESS, PageTableFormat, Rule
from vmcorefs.core.paging.mappings import (
    Aliases,
    Mappings,
    Problem,
    Reason,
    Runs,
    UInt8Array,
    UInt64Array,
)
from vmcorefs.core.space.columns import BoolArray, Columns
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.errors import FormatError

__all__ = ["Limits", "Mappings", "Problem", "ReadTables", "Reason", "walk"]

ReadTables = Callable[[Int64Array, int], tuple[UInt64Array, BoolArray]]
"""``read_tables(paddrs, count)``: the ``count`` entries of each of the tables at these physical
addresses, shape ``(n, count)``, and which tables could be read, shape ``(n,)``; the entries of the
others are ignored. The addresses are not negative, in any order, and may repeat."""

MAX_EXAMPLES = 3
_CHUNK = 1 << 20  # bytes of tables handled at a time: the memory that the walk itself needs
_NAPOT_SIZE = 1 << 16
_ROOT_ALIGNMENT = 1 << 12


class Limits(msgspec.Struct, frozen=True):
    """How far a walk goes.

    Attributes:
        tables: Most tables to read. A million of 4 KiB map 2 TiB page by page.
        runs: Most runs to keep, 25 bytes each.
        repeats: How many uses of one table are followed; the others become ``Aliases``.
    """

    tables: int = 1 << 20
    runs: int = 1 << 21
    repeats: int = 8


def walk(
    fmt: PageTableFormat,
    root: int,
    read_tables: ReadTables,
    *,
    limits: Limits | None = None,
    whole: bool = False,
) -> Mappings:
    """Walk page tables.

    Args:
        fmt: Their format.
        root: Physical address of the root.
        read_tables: Reads tables.
        limits: How far to go; anything beyond is listed in the result's problems.
        whole: Include the lower half, if the root has one; by default only the kernel's half.

    Raises:
        FormatError: if no table can be at ``root``.
        VmcorefsError: whatever ``read_tables`` raises.
    """
    if not 0 <= root < 1 << 56 or root % _ROOT_ALIGNMENT:
        raise FormatError(f"no page table can be at {root:#x}: out of range or not aligned")
    walker = _Walker(fmt, read_tables, limits or Limits())
    visits = _Visits(
        paddr=np.array([root], dtype=np.int64),
        vaddr=np.zeros(1, dtype=np.int64),
        denied=np.zeros(1, dtype=np.uint8),
        path=np.empty((1, 0), dtype=np.int64),
    )
    first = 0 if whole else fmt.kernel_entry
    for level in range(fmt.levels):
        visits = walker.step(level, visits, first)
        first = 0
    return walker.result(root)


class _Visits(Columns, frozen=True, eq=False):
    """Tables of one level, once for each entry that names them.

    Attributes:
        paddr: Where the table is, shape ``(n,)``, int64.
        vaddr: First address that it maps, shape ``(n,)``, int64.
        denied: ``Access`` bits that a table above denies, shape ``(n,)``, uint8.
        path: Where the tables above it are, shape ``(n, level)``, int64.
    """

    paddr: Int64Array
    vaddr: Int64Array
    denied: UInt8Array
    path: Int64Array


def _no_visits(level: int) -> _Visits:
    none = np.empty(0, np.int64)
    return _Visits(none, none, np.empty(0, np.uint8), np.empty((0, level), np.int64))


class _Entries(Columns, frozen=True, eq=False):
    """The valid entries of some tables.

    Attributes:
        entry: As it stands in the table, shape ``(n,)``, uint64.
        row: Which of the tables it is in, shape ``(n,)``, int64.
        vaddr: First address that it maps, shape ``(n,)``, int64.
        paddr: Its output address, shape ``(n,)``, int64.
    """

    entry: UInt64Array
    row: Int64Array
    vaddr: Int64Array
    paddr: Int64Array


class _Walker:
    """A walk under way: what it has found so far."""

    def __init__(self, fmt: PageTableFormat, read_tables: ReadTables, limits: Limits) -> None:
        self.fmt = fmt
        self.limits = limits
        self._read_tables = read_tables
        self._tables = 0
        self._run_count = 0
        empty = np.empty(0, dtype=np.int64)
        self._runs = [Runs(empty, empty, empty, empty.astype(np.uint8))]
        self._aliases = [np.empty((0, 3), dtype=np.int64)]
        self._problems: dict[Reason, tuple[int, tuple[tuple[int, int], ...]]] = {}

    def step(self, level: int, visits: _Visits, first: int) -> _Visits:
        """Look at all tables of a level and return those that they name.

        Args:
            level: The level; 0 is the root.
            visits: Its tables.
            first: The first entry of each to look at.
        """
        visits = self._set_repeats_aside(level, visits)
        visits = self._cut(visits, self.limits.tables - self._tables)
        named = [_no_visits(level + 1)]
        room = self.limits.tables
        chunk = max(_CHUNK // (8 * self.fmt.entries(level)), 1)
        for start in range(0, len(visits), chunk):
            if Reason.TOO_MANY_RUNS in self._problems:
                break
            part = visits.rows(slice(start, start + chunk))
            named.append(self._cut(self._look_at(level, part, first), room))
            room -= len(named[-1])
        return _Visits.join(named)

    def result(self, root: int) -> Mappings:
        """Everything that was found."""
        runs = Runs.join(self._runs)
        runs = runs.rows(np.argsort(runs.vaddr, kind="stable")).merged()
        aliases = np.concatenate(self._aliases)
        aliases = aliases[np.argsort(aliases[:, 0])]
        return Mappings(
            fmt=self.fmt,
            root=root,
            vaddr=runs.vaddr,
            paddr=runs.paddr,
            size=runs.size,
            flags=runs.flags,
            aliases=Aliases(*(np.ascontiguousarray(column) for column in aliases.T)),
            problems=tuple(Problem(reason, *found) for reason, found in self._problems.items()),
            tables=self._tables,
        )

    def _set_repeats_aside(self, level: int, visits: _Visits) -> _Visits:
        """Keep the first uses of each table; the others become aliases of the very first."""
        # tables are aligned, so the low bits can hold the access, which may differ for one table
        key = visits.paddr | visits.denied
        _, first, table, count = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        if not len(key) or count.max() <= self.limits.repeats:
            return visits
        order = np.argsort(table, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        repeats = place >= self.limits.repeats
        vaddr = visits.vaddr[repeats]
        size = np.full_like(vaddr, 1 << self.fmt.shift(level - 1))
        self._aliases.append(np.stack((vaddr, size, visits.vaddr[first[table[repeats]]]), axis=1))
        return visits.rows(~repeats)

    def _cut(self, visits: _Visits, room: int) -> _Visits:
        room = max(room, 0)
        if len(visits) <= room:
            return visits
        self._note(Reason.TOO_MANY_TABLES, visits.vaddr[room:], visits.paddr[room:])
        return visits.rows(np.arange(room))  # a copy: a slice would keep the whole array alive

    def _look_at(self, level: int, tables: _Visits, first: int) -> _Visits:
        """Record what these tables map, and return the tables that they name."""
        fmt = self.fmt
        values, readable = self._read_tables(tables.paddr, fmt.entries(level))
        self._tables += len(tables)
        self._note(Reason.UNREADABLE, tables.vaddr[~readable], tables.paddr[~readable])
        values = values[:, first:]
        mask, value = map(np.uint64, fmt.use(level))
        row, column = np.nonzero(((values & mask) == value) & readable[:, None])
        index = column + first
        entry = values[row, column]
        vaddr = tables.vaddr[row] + (index << fmt.shift(level))
        if level == 0:
            kernel = fmt.kernel_start - (fmt.kernel_entry << fmt.shift(0))
            vaddr = np.where(index >= fmt.kernel_entry, vaddr + kernel, vaddr)
        found = _Entries(entry, row, vaddr, output_address(fmt, entry))
        if level == fmt.levels - 1:
            self._keep_leaves(level, found, tables)
            return _no_visits(level + 1)
        leaf = ((found.entry & np.uint64(fmt.leaf_mask)) != 0) == fmt.leaf_value
        self._keep_leaves(level, found.rows(leaf), tables)
        return self._name_tables(found.rows(~leaf), tables)

    def _name_tables(self, found: _Entries, tables: _Visits) -> _Visits:
        paddr = table_address(self.fmt, found.entry)
        path = np.concatenate((tables.path, tables.paddr[:, None]), axis=1)[found.row]
        loop = (path == paddr[:, None]).any(axis=1)
        self._note(Reason.LOOP, found.vaddr[loop], paddr[loop])
        denied = tables.denied[found.row] | _denied(found.entry, self.fmt.table_rules)
        return _Visits(paddr, found.vaddr, denied, path).rows(~loop)

    def _keep_leaves(self, level: int, found: _Entries, tables: _Visits) -> None:
        fmt, size = self.fmt, 1 << self.fmt.shift(level)
        if level == fmt.levels - 1:
            found = self._drop(
                Reason.RESERVED, found, (found.entry & np.uint64(fmt.page_mask)) == 0
            )
        elif fmt.shift(level) not in fmt.large_shifts:
            found = self._drop(Reason.RESERVED, found, np.ones(len(found.row), dtype=bool))
        if fmt.reserved is not None:
            mask, value = fmt.reserved
            found = self._drop(Reason.RESERVED, found, (found.entry & mask) == value)
        if level == fmt.levels - 1:
            paddr = _napot_address(found) if fmt.napot else found.paddr
        else:
            unaligned = (found.paddr & (size - 1) & ~fmt.large_ignored) != 0
            found = self._drop(Reason.MISALIGNED, found, unaligned)
            paddr = found.paddr & -size
        denied = tables.denied[found.row] | _denied(found.entry, fmt.leaf_rules)
        flags = np.bitwise_and(~denied, np.uint8(ALL_ACCESS))
        self._keep(Runs(found.vaddr, paddr, np.full_like(paddr, size), flags).merged())

    def _keep(self, runs: Runs) -> None:
        room = self.limits.runs - self._run_count
        if len(runs) > room:
            self._note(Reason.TOO_MANY_RUNS, runs.vaddr[room:], runs.paddr[room:])
            runs = runs.rows(np.arange(room))
        self._runs.append(runs)
        self._run_count += len(runs)

    def _drop(self, reason: Reason, found: _Entries, bad: BoolArray) -> _Entries:
        if not bad.any():
            return found
        self._note(reason, found.vaddr[bad], found.paddr[bad])
        return found.rows(~bad)

    def _note(self, reason: Reason, vaddr: Int64Array, paddr: Int64Array) -> None:
        if not len(vaddr):
            return
        count, examples = self._problems.get(reason, (0, ()))
        first = slice(0, MAX_EXAMPLES - len(examples))
        shown = zip(vaddr[first].tolist(), paddr[first].tolist(), strict=True)
        examples = (*examples, *((at % (1 << 64), to) for at, to in shown))
        self._problems[reason] = (count + len(vaddr), examples)


def output_address(fmt: PageTableFormat, entry: UInt64Array) -> Int64Array:
    """The address of the memory that each entry maps: shape ``(n,)``, int64."""
    return _address(fmt.address, entry)


def table_address(fmt: PageTableFormat, entry: UInt64Array) -> Int64Array:
    """The address of the table that each entry names: shape ``(n,)``, int64."""
    return _address(fmt.table_address or fmt.address, entry)


def _address(parts: tuple[tuple[int, int], ...], entry: UInt64Array) -> Int64Array:
    address = np.zeros(len(entry), dtype=np.uint64)
    for mask, shift in parts:
        address |= (entry & np.uint64(mask)) << np.uint64(shift)
    return address.astype(np.int64)


def _napot_address(found: _Entries) -> Int64Array:
    """Svnapot: bit 63 and 0b1000 in the four low bits of the page number are a 64 KiB page.

    With anything else in those bits the CPU would fault, but T-Head's cores, which have no Svnapot,
    keep a memory type in bit 63 (arch/riscv/include/asm/pgtable-64.h, ``_PAGE_IO_THEAD``).
    """
    inside = _NAPOT_SIZE - 1
    napot = ((found.entry >> np.uint64(63)) == 1) & ((found.paddr & inside) == _NAPOT_SIZE // 2)
    return np.where(napot, (found.paddr & ~inside) | (found.vaddr & inside), found.paddr)


def _denied(entry: UInt64Array, rules: tuple[Rule, ...]) -> UInt8Array:
    denied = np.zeros(len(entry), dtype=np.uint8)
    for rule in rules:
        denied |= ((entry & np.uint64(rule.mask)) == rule.value) * np.uint8(rule.access)
    return denied
