"""Names for addresses in code, out of the kernel's own symbols and those of its modules."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from vmcorefs.core.space.units import KERNEL_HALF
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.reports.report.schema import Frame

_MAX_OFFSET = 1 << 24
"""A symbol further below than this does not hold the address: it is in no code."""

_MARKS = ("__start_", "__stop_")  # include/asm-generic/vmlinux.lds.h, scripts/module.lds.S
_MAPPING = ("$", ".L", "L0")
"""Symbols of an assembler, which say where code or data begins, in modules alone: the kernel names
nothing by them either (include/linux/module_symbol.h, ``is_mapping_symbol``)."""


class Names:
    """A search in several symbol tables at once.

    Args:
        tables: The kernel's and its modules' symbols; addresses in uint64.
    """

    def __init__(self, tables: Iterable[SymbolTable]) -> None:
        self._tables = tuple(table for table in tables if len(table))
        self._orders = tuple(map(_order, self._tables))
        self._sorted = tuple(
            t.addresses[order] for t, order in zip(self._tables, self._orders, strict=True)
        )

    def frame(self, pc: int, *, returned_to: bool) -> Frame:
        """Name a place in code.

        Args:
            pc: The address.
            returned_to: Whether a call returns there: the function is then the one of the byte
                before, since a call may be the last instruction of its function.
        """
        found = self._find(pc - returned_to)
        if found is None:
            return Frame(pc)
        table, row = found
        start = int(table.addresses[row])
        return Frame(pc, table.names[row], pc - start, table.module)

    def symbol(self, address: int) -> str:
        """The name of the variable that is exactly there, or an empty string.

        Marks of the linker, where another section ends, are no variables.
        """
        if not KERNEL_HALF <= address < 1 << 64:
            return ""
        for table in self._tables:
            for row in np.flatnonzero(table.addresses == np.uint64(address)).tolist():
                if not table.names[row].startswith((*_MARKS, *_MAPPING)):
                    return table.names[row]
        return ""

    def _find(self, address: int) -> tuple[SymbolTable, int] | None:
        """The nearest symbol at or below an address, over all tables."""
        best: tuple[int, SymbolTable, int] | None = None
        # per-CPU symbols of x86-64 are below, offsets before 6.15, and so is all of user space
        if not KERNEL_HALF <= address < 1 << 64:
            return None
        for table, order, starts in zip(self._tables, self._orders, self._sorted, strict=True):
            at = int(starts.searchsorted(np.uint64(address), side="right")) - 1
            if at < 0:
                continue
            start = int(starts[at])
            if address - start < _MAX_OFFSET and (best is None or start > best[0]):
                # of several names, the first one that kallsyms has
                first = int(starts.searchsorted(np.uint64(start), side="left"))
                best = start, table, int(order[first])
        return None if best is None else best[1:]


def _order(table: SymbolTable) -> npt.NDArray[np.intp]:
    """Which rows name anything, by their addresses."""
    order: npt.NDArray[np.intp] = np.argsort(table.addresses, kind="stable")
    if table.module:
        named = np.array([not name.startswith(_MAPPING) for name in table.names])
        order = order[named[order]]
    return order
