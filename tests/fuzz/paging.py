"""Page tables of each architecture.

One byte says which format, one how much is held; then entries: u8 table, u8 unused, u16 index, u64
entry. Index 0xffff fills the table. The tables lie at 1 GiB, one behind the other, the root first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from tests.builders.mappings import format_of
from tests.builders.page_tables import MACHINES, Machine
from tests.fuzz.target import Check, target
from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.paging.walk import Limits, walk
from vmcorefs.errors import FormatError

BASE: Final = 1 << 30
TABLES: Final = 16
LIMITS: Final = Limits(tables=600, runs=400, repeats=4)
ALL: Final = 0xFFFF
_ENTRY = struct.Struct("<BBHQ")

Entry = tuple[int, int, int]
"""Table, index, value."""


def pack(kind: int, entries: list[Entry], held: int = TABLES) -> bytes:
    """Encode entries of the ``kind``th format of the family."""
    packed = [_ENTRY.pack(table, 0, index, value) for table, index, value in entries]
    return bytes([kind, held]) + b"".join(packed)


def _unpack(data: bytes, family: list[Machine]) -> tuple[Machine, npt.NDArray[np.uint64]]:
    if len(data) < 2:
        raise FormatError("no tables")
    machine = family[data[0] % len(family)]
    tables = np.zeros((data[1] % (TABLES + 1), machine.table_size // 8), dtype=np.uint64)
    whole = len(data) - (len(data) - 2) % _ENTRY.size
    for table, _, index, value in _ENTRY.iter_unpack(data[2:whole]):
        if len(tables):
            row = tables[table % len(tables)]
            row[slice(None) if index == ALL else index % len(row)] = value
    return machine, tables


def _walk(family: list[Machine]) -> Check:
    def check(data: bytes) -> None:
        machine, tables = _unpack(data, family)

        def read_tables(
            paddrs: npt.NDArray[np.int64], count: int
        ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
            number, rest = np.divmod(paddrs - BASE, machine.table_size)
            held = (rest == 0) & (number >= 0) & (number < len(tables))
            found = np.zeros((len(paddrs), count), dtype=np.uint64)
            found[held] = tables[number[held], :count]
            return found, held

        fmt = format_of(machine)
        _check(walk(fmt, BASE, read_tables, limits=LIMITS, whole=True), LIMITS)
        found = walk(fmt, BASE, read_tables)  # as far as the product goes
        _check(found, Limits())
        if not len(found):
            raise FormatError("nothing is mapped")

    return check


def _check(found: Mappings, limits: Limits) -> None:
    assert found.tables <= limits.tables
    assert len(found) <= limits.runs
    assert (found.size > 0).all()
    assert (found.paddr >= 0).all()
    assert (found.vaddr[1:] >= (found.vaddr + found.size)[:-1]).all()
    for problem in found.problems:
        assert str(problem)
    probes = np.concatenate((found.vaddr, found.vaddr + found.size - 1)).view(np.uint64)
    assert (found.translate_many(probes) >= 0).all()


def _seeds(family: list[Machine]) -> tuple[list[bytes], list[bytes]]:
    valid, nasty = [], []
    for kind, machine in enumerate(family):
        last, size = len(machine.spans) - 1, machine.table_size
        down = [
            (level, 0 if level else machine.first, machine.table(BASE + (level + 1) * size))
            for level in range(last)
        ]
        pages = [(last, index, machine.leaf(index * machine.page, 15, True)) for index in range(3)]
        valid.append(pack(kind, [*down, *pages]))
        itself = machine.table(BASE)
        nasty += [
            pack(kind, [(table, ALL, (1 << 64) - 1) for table in range(TABLES)]),  # all ones
            pack(kind, [(0, ALL, itself)]),  # the root is all tables
            pack(kind, [(table, ALL, machine.table(BASE + (table * size ^ size)))
                        for table in range(TABLES)]),
            pack(kind, [*down, (last, ALL, machine.leaf(0, 15, True))]),  # one page everywhere
            pack(kind, [*down, *pages], held=last),  # torn
            pack(kind, [(0, ALL, machine.table((1 << machine.paddr_bits) - size))]),
            pack(kind, [(0, ALL, machine.leaf(0, 15, False))]),  # huge pages of the root
        ]  # fmt: skip
    return valid, nasty


def _register(name: str, belongs: Callable[[str], bool]) -> None:
    family = [machine for machine in MACHINES if belongs(machine.name)]
    target(name, *_seeds(family))(_walk(family))


_register("paging-x86-64", lambda name: name.startswith("x86-"))
_register("paging-arm64", lambda name: name.startswith("arm-"))
_register("paging-riscv64", lambda name: name.startswith("sv"))
_register("paging-ppc64", lambda name: name.startswith("radix-"))
_register("paging-s390x", lambda name: name.startswith("dat-"))
