"""What page tables map: walked from tables made by hand, or told run by run."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.builders.page_tables import TOP, Machine, Tables
from vmcorefs.core.paging.formats import PageTableFormat, arm64, ppc64_radix, riscv64, s390x, x86_64
from vmcorefs.core.paging.mappings import Aliases, Mappings
from vmcorefs.core.paging.walk import walk

MIB = 1 << 20
ROOT = 18 * MIB


def format_of(machine: Machine) -> PageTableFormat:
    family, *rest = machine.name.split("-")
    if family == "x86":
        return x86_64(levels=len(machine.spans))
    if family == "arm":
        return arm64(page_size=machine.page, va_bits=int(rest[1]))
    if family == "radix":
        return ppc64_radix(page_size=machine.page)
    if family == "dat":
        return s390x(levels=len(machine.spans))
    return riscv64(va_bits=int(family[2:]))


def rows(found: Mappings) -> list[tuple[int, int, int, int]]:
    return [
        (vaddr % TOP, paddr, size, flags)
        for vaddr, paddr, size, flags in zip(
            found.vaddr.tolist(),
            found.paddr.tolist(),
            found.size.tolist(),
            found.flags.tolist(),
            strict=True,
        )
    ]


def walk_tables(tables: Tables, fmt: PageTableFormat | None = None, **options: Any) -> Mappings:
    fmt = fmt or format_of(tables.machine)
    return walk(fmt, tables.root, tables.read_tables, **options)


def mappings(*runs: tuple[int, int, int], root: int = ROOT) -> Mappings:
    """``(vaddr, paddr, size)`` runs, sorted."""
    vaddr, paddr, size = np.array(runs, dtype=np.uint64).reshape(-1, 3).T.view(np.int64)
    nothing = np.empty(0, dtype=np.int64)
    flags = np.zeros(len(runs), dtype=np.uint8)
    aliases = Aliases(nothing, nothing, nothing)
    return Mappings(x86_64(levels=4), root, vaddr, paddr, size, flags, aliases, (), 1)
