"""The regions of a memory map, as columns: a map may have a million of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self, overload

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.space.columns import Columns
from vmcorefs.core.space.ranges import Int64Array, Ranges, normalise
from vmcorefs.core.space.units import MAX_ADDRESS, format_range
from vmcorefs.errors import FormatError

_AT_ONCE = 1 << 14  # regions that are Python objects at a time
_MOST = 2**63 - 1
_IMPOSSIBLE = f"empty, or it ends beyond {MAX_ADDRESS:#x}"


class Region(NamedTuple):
    """A typed range of the memory map.

    Attributes:
        start: First physical address, in bytes.
        end: One past the last; maps print the last one.
        name: The kernel's name for it.
        depth: 0 for a top-level region, 1 for its children, and so on.
        line: Its line in the input, counted from 1; 0 if it has none.
    """

    start: int
    end: int
    name: str
    depth: int = 0
    line: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.name} {format_range(self.start, self.end)}"


class RegionTable(Columns, frozen=True, eq=False):
    """Regions; each column has the shape ``(n,)``.

    Attributes:
        start: First physical address, int64, bytes.
        end: One past the last, int64.
        name: Index into ``Regions.names``, int32.
        depth: As in ``Region``, int32.
        line: As in ``Region``, int32.
    """

    start: Int64Array
    end: Int64Array
    name: npt.NDArray[np.int32]
    depth: npt.NDArray[np.int32]
    line: npt.NDArray[np.int32]


class Regions(Sequence[Region]):
    """Regions in order, each directly behind its parent.

    Attributes:
        table: The regions.
        names: The names that ``table.name`` indexes.
    """

    def __init__(self, table: RegionTable, names: Sequence[str]) -> None:
        self.table = table
        self.names = tuple(names)

    @classmethod
    def of(cls, regions: Iterable[Region]) -> Self:
        """A few regions, one by one.

        Raises:
            FormatError: if an address does not fit into a column.
        """
        rows = list(regions)
        for region in rows:
            if max(region.start, region.end) > _MOST:
                raise FormatError(f"{region}: {_IMPOSSIBLE}")
        number = {name: n for n, name in enumerate(dict.fromkeys(r.name for r in rows))}
        return cls(
            RegionTable(
                np.array([r.start for r in rows], dtype=np.int64),
                np.array([r.end for r in rows], dtype=np.int64),
                np.array([number[r.name] for r in rows], dtype=np.int32),
                np.array([r.depth for r in rows], dtype=np.int32),
                np.array([r.line for r in rows], dtype=np.int32),
            ),
            tuple(number),
        )

    @classmethod
    def flat(cls, ranges: Ranges, name: str, depth: int = 0) -> Self:
        """Regions of one name and one depth."""
        zeros = np.zeros(len(ranges), dtype=np.int32)
        table = RegionTable(ranges[:, 0], ranges[:, 1], zeros, zeros + np.int32(depth), zeros)
        return cls(table, (name,))

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Region]:
        for first in range(0, len(self), _AT_ONCE):
            yield from self[first : first + _AT_ONCE]

    @overload
    def __getitem__(self, index: int) -> Region: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Region, ...]: ...
    def __getitem__(self, index: int | slice) -> Region | tuple[Region, ...]:
        if isinstance(index, int):
            return self[index:][:1][0] if index < 0 else self[index : index + 1][0]
        t = self.table.rows(index)
        columns = (column.tolist() for column in (t.start, t.end, t.name, t.depth, t.line))
        return tuple(
            Region(start, end, self.names[name], depth, line)
            for start, end, name, depth, line in zip(*columns, strict=True)
        )

    def ranges(self, wanted: Callable[[str], bool]) -> Ranges:
        """The regions whose name passes ``wanted``, as a normal set."""
        named = np.array([wanted(name) for name in self.names], dtype=np.bool_)
        table = self.table.rows(named[self.table.name])
        return normalise(np.stack((table.start, table.end), axis=1))

    def in_order(self) -> Self:
        """Flat regions in order of address."""
        return type(self)(
            self.table.rows(np.lexsort((self.table.end, self.table.start))), self.names
        )

    def with_more(self, other: Regions) -> Regions:
        """These and others in order of address, the larger ones and the parents first."""
        more = other.table
        names = replace(more, name=more.name + np.int32(len(self.names)))
        joined = RegionTable.join((self.table, names))
        order = np.lexsort((joined.depth, -joined.end, joined.start))
        return Regions(joined.rows(order), (*self.names, *other.names))

    def check(self) -> None:
        """Check that they are in order, and inside their parents.

        Raises:
            FormatError: with both lines, if a region is empty, starts before or overlaps the one
                that precedes it, or leaves its parent.
        """
        t = self.table
        before = np.concatenate(([-1], t.depth[:-1])) if len(t) else t.depth
        parent, sibling = _relatives(t.depth)
        deeper = t.depth > before + 1
        wrong = (t.start < 0) | (t.end <= t.start) | (t.end > MAX_ADDRESS)
        outside = (parent >= 0) & ((t.start < t.start[parent]) | (t.end > t.end[parent]))
        clashing = (sibling >= 0) & (t.start < t.end[sibling])
        bad = np.flatnonzero(wrong | deeper | outside | clashing)
        if not len(bad):
            return
        row = int(bad[0])
        region = self[row]
        if wrong[row]:
            raise FormatError(f"{region}: {_IMPOSSIBLE}")
        if deeper[row]:
            raise FormatError(f"{region}: indented deeper than the region before it allows")
        if outside[row]:
            raise FormatError(f"{region}: not inside {self[int(parent[row])]}")
        other = self[int(sibling[row])]
        problem = "overlaps" if region.end > other.start else "is out of order after"
        raise FormatError(f"{region}: {problem} {other}")


def _relatives(depth: npt.NDArray[np.int32]) -> tuple[Int64Array, Int64Array]:
    """The row of each region's parent, and of the sibling before it; -1 where there is none."""
    parent = np.full(len(depth), -1, dtype=np.int64)
    sibling = parent.copy()
    order = np.argsort(depth, kind="stable")
    above, level = order[:0], -1
    for rows in np.split(order, np.flatnonzero(np.diff(depth[order])) + 1) if len(order) else ():
        if depth[rows[0]] == level + 1 and len(above):
            at = np.searchsorted(above, rows) - 1
            parent[rows] = np.where(at >= 0, above[at], -1)
        before = np.concatenate((rows[:1] * 0 - 1, rows[:-1]))
        # a sibling has the same parent: it comes behind that
        sibling[rows] = np.where(before > parent[rows], before, -1)
        above, level = rows, int(depth[rows[0]])
    return parent, sibling
