"""Page tables made by hand, as the architecture manuals say, with what they map beside them.

Nothing here is taken from ``vmcorefs.core.paging``: entries are put together with ``struct`` and
plain integers, one at a time, the way a kernel maps memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

W, X, U, G = 1, 2, 4, 8
"""Access bits, as ``paging.formats.Access`` numbers them."""

Row = tuple[int, int, int, int]
"""vaddr (unsigned), paddr, size, access."""

TOP = 1 << 64


@dataclass(frozen=True)
class Machine:
    """One format: its geometry, and how its entries are written.

    Attributes:
        name: For the tests' names.
        page: Bytes in a page.
        spans: Bytes that one entry of each level maps, root first.
        entries: Entries of each level.
        first: First entry of the root that is for the kernel.
        sizes: Sizes of pages that the CPU knows.
        paddr_bits: Of physical addresses.
        leaf: ``leaf(paddr, access, is_page)``: an entry that maps memory.
        table: ``table(paddr)``: an entry that names a table, and denies nothing.
        order: The byte order of its entries, as ``struct`` has it.
        bottom: The lowest kernel address, unsigned, where the highest one is not the last of all.
        always: Access that no entry can deny.
        never: Access that no entry can allow.
        empty: An entry that is not in use, of any level.
    """

    name: str
    page: int
    spans: tuple[int, ...]
    entries: tuple[int, ...]
    first: int
    sizes: tuple[int, ...]
    paddr_bits: int
    leaf: Callable[[int, int, bool], int]
    table: Callable[[int], int]
    order: str = "<"
    bottom: int | None = None
    always: int = 0
    never: int = 0
    empty: int = 0

    @property
    def start(self) -> int:
        """The lowest kernel address, unsigned."""
        if self.bottom is not None:
            return self.bottom
        return TOP - (self.entries[0] - self.first) * self.spans[0]

    @property
    def end(self) -> int:
        """Behind the highest kernel address."""
        return self.start + (self.entries[0] - self.first) * self.spans[0]

    @property
    def table_size(self) -> int:
        """Bytes that hold a table of any level."""
        return max(self.page, 8 * max(self.entries))


def _x86_leaf(paddr: int, access: int, is_page: bool) -> int:
    entry = 1 | 0x20 | paddr | (0 if is_page else 0x80)
    entry |= 0x2 if access & W else 0
    entry |= 0x4 if access & U else 0
    entry |= 0x100 if access & G else 0
    return entry | (0 if access & X else 0x8000_0000_0000_0000)


def _arm_leaf(paddr: int, access: int, is_page: bool) -> int:
    entry = 0x400 | (0x3 if is_page else 0x1) | paddr
    entry |= 0 if access & W else 0x80
    entry |= 0x40 if access & U else 0
    entry |= 0 if access & G else 0x800
    return entry | (0 if access & X else 0x0020_0000_0000_0000)


def _arm_lpa(paddr: int) -> int:
    return paddr & 0xFFFF_FFFF_FFFF | paddr >> 48 << 12


def _arm_lpa2(paddr: int) -> int:
    return paddr & 0x3_FFFF_FFFF_FFFF | paddr >> 50 << 8


def _riscv_leaf(paddr: int, access: int, is_page: bool) -> int:
    entry = 0x1 | 0x2 | 0xC0 | paddr >> 12 << 10
    entry |= 0x4 if access & W else 0
    entry |= 0x8 if access & X else 0
    entry |= 0x10 if access & U else 0
    return entry | (0x20 if access & G else 0)


def _geometry(va_bits: int, page: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    spans, span, per_table = [page], page, page // 8
    while span * per_table < 1 << va_bits:
        span *= per_table
        spans.insert(0, span)
    entries = ((1 << va_bits) // spans[0], *(per_table,) * (len(spans) - 1))
    return tuple(spans), entries


def x86(va_bits: int) -> Machine:
    """x86-64 with 4 levels (48 bits) or 5 (57)."""
    return Machine(
        f"x86-{va_bits}", 4096, *_geometry(va_bits, 4096), 256, (4096, 2 << 20, 1 << 30), 46,
        _x86_leaf, lambda paddr: paddr | 0x67,
    )  # fmt: skip


def arm(page_kib: int, va_bits: int) -> Machine:
    """arm64's TTBR1."""
    page = page_kib * 1024
    blocks = {4: (2 << 20, 1 << 30), 16: (32 << 20,), 64: (512 << 20,)}[page_kib]
    wide = page_kib == 64 or va_bits == 52
    spread: Callable[[int], int] = lambda paddr: paddr  # noqa: E731
    if wide:
        spread = _arm_lpa if page_kib == 64 else _arm_lpa2
    shareable = 0 if wide and page_kib != 64 else 0x300
    spans, entries = _geometry(va_bits, page)
    return Machine(
        f"arm-{page_kib}K-{va_bits}", page, spans, entries, 0,
        (page, *(size for size in blocks if size <= spans[0])), 52 if wide else 48,
        lambda paddr, access, is_page: _arm_leaf(spread(paddr), access, is_page) | shareable,
        lambda paddr: spread(paddr) | 0x3,
    )  # fmt: skip


def riscv(va_bits: int) -> Machine:
    """riscv64's Sv39, Sv48 or Sv57: an entry of any level may map memory."""
    spans, entries = _geometry(va_bits, 4096)
    return Machine(
        f"sv{va_bits}", 4096, spans, entries, 256, tuple(reversed(spans)), 56,
        _riscv_leaf, lambda paddr: paddr >> 12 << 10 | 0x1,
    )  # fmt: skip


def _radix_leaf(paddr: int, access: int, _is_page: bool) -> int:
    entry = 0xC000_0000_0000_0000 | paddr | 0x184  # present, leaf; referenced, changed, readable
    entry |= 0x2 if access & W else 0
    entry |= 0x1 if access & X else 0
    return entry | (0 if access & U else 0x8)


def radix(page_kib: int) -> Machine:
    """ppc64's radix tree of 52 bits, in the third quadrant; NLS, the low bits, is not looked at."""
    page = page_kib * 1024
    return Machine(
        f"radix-{page_kib}K", page, (1 << 39, 1 << 30, 2 << 20, page),
        (8192, 512, 512, (2 << 20) // page), 0, (page, 2 << 20, 1 << 30), 56,
        _radix_leaf, lambda paddr: 0x8000_0000_0000_0000 | paddr | 9,
        order=">", bottom=0xC000_0000_0000_0000, always=G,
    )  # fmt: skip


def _dat_leaf(paddr: int, access: int, is_page: bool) -> int:
    entry = paddr | (0x1 if is_page else 0x400)
    entry |= 0 if access & W else 0x200
    return entry | (0 if access & X else 0x100)


def dat(levels: int) -> Machine:
    """s390x's regions, segments and pages; the types of tables and their lengths are not read."""
    spans = (1 << 42, 1 << 31, 1 << 20, 4096)[4 - levels :]
    return Machine(
        f"dat-{levels}", 4096, spans, (*(2048,) * (levels - 1), 256), 0,
        (4096, 1 << 20, 1 << 31), 47, _dat_leaf, lambda paddr: paddr | 0x3,
        order=">", bottom=0, always=G, never=U, empty=0x420,
    )  # fmt: skip


@dataclass
class Tables:
    """Tables in a memory that begins at ``base``, and a list of what was mapped."""

    machine: Machine
    base: int = 0x4000_0000
    memory: bytearray = field(default_factory=bytearray, repr=False)
    mapped: list[Row] = field(default_factory=list)
    _named: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.allocate()

    def allocate(self) -> int:
        """An empty table's physical address."""
        empty = struct.pack(f"{self.machine.order}Q", self.machine.empty)
        self.memory += empty * (self.machine.table_size // 8)
        return self.base + len(self.memory) - self.machine.table_size

    def get(self, table: int, index: int) -> int:
        """An entry."""
        value: int = struct.unpack_from(
            f"{self.machine.order}Q", self.memory, table - self.base + 8 * index
        )[0]
        return value

    def put(self, table: int, index: int, entry: int) -> None:
        """Write an entry."""
        struct.pack_into(
            f"{self.machine.order}Q", self.memory, table - self.base + 8 * index, entry
        )

    def index(self, level: int, vaddr: int) -> int:
        """Which entry of a table of ``level`` is for ``vaddr``."""
        return vaddr // self.machine.spans[level] % self.machine.entries[level]

    def descend(self, vaddr: int, level: int) -> int:
        """The table of ``level`` that is for ``vaddr``; what is missing on the way is made."""
        table = self.root
        for above in range(level):
            index = self.index(above, vaddr)
            if self.get(table, index) == self.machine.empty:
                made = self.allocate()
                self.put(table, index, self.machine.table(made))
                self._named[table, index] = made
            table = self._named[table, index]
        return table

    def name(self, vaddr: int, level: int, table: int) -> None:
        """Make the entry for ``vaddr`` in its table of ``level`` name ``table``."""
        above, index = self.descend(vaddr, level), self.index(level, vaddr)
        self.put(above, index, self.machine.table(table))
        self._named[above, index] = table

    def map(self, vaddr: int, paddr: int, size: int, access: int) -> None:
        """Map a page of ``size``."""
        level = self.machine.spans.index(size)
        entry = self.machine.leaf(paddr, access, level == len(self.machine.spans) - 1)
        self.put(self.descend(vaddr, level), self.index(level, vaddr), entry)
        seen = (access | self.machine.always) & ~self.machine.never
        self.mapped.append((vaddr, paddr, size, seen))

    def runs(self) -> list[Row]:
        """What was mapped, in maximal runs in order of vaddr."""
        return join(self.mapped)

    def read_tables(
        self, paddrs: npt.NDArray[np.int64], count: int
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """As ``paging.walk`` wants it."""
        found = np.zeros((len(paddrs), count), dtype=np.uint64)
        held = np.zeros(len(paddrs), dtype=bool)
        for row, paddr in enumerate(paddrs.tolist()):
            start = paddr - self.base
            if 0 <= start <= len(self.memory) - 8 * count:
                held[row] = True
                found[row] = struct.unpack_from(f"{self.machine.order}{count}Q", self.memory, start)
        return found, held


def join(rows: list[Row]) -> list[Row]:
    """Sort rows and join those that are contiguous in both spaces and of the same access."""
    ordered = sorted(rows)
    breaks = [0]
    for number, (before, after) in enumerate(pairwise(ordered), 1):
        size = before[2]
        if (after[0], after[1], after[3]) != (before[0] + size, before[1] + size, before[3]):
            breaks.append(number)
    parts = [ordered[start:end] for start, end in pairwise([*breaks, len(ordered)])]
    return [(*part[0][:2], sum(row[2] for row in part), part[0][3]) for part in parts if part]


MACHINES = (
    x86(48), x86(57),
    arm(4, 39), arm(4, 48), arm(4, 52), arm(16, 36), arm(16, 47), arm(16, 48), arm(16, 52),
    arm(64, 42), arm(64, 48), arm(64, 52),
    riscv(39), riscv(48), riscv(57),
    radix(4), radix(64),
    dat(3), dat(4),
)  # fmt: skip
