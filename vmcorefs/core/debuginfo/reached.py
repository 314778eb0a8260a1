"""Which of the kernel's types a module's debug file needs: those that its own types are made of.

A module's BTF goes on where the kernel's ends, and nearly all of its types lead to most of the
kernel's by pointers. A compiler does not describe what is only pointed to, but declares it, and
readers look for the rest in vmlinux, which they have opened before; so does this.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vmcorefs.core.structures.types.btf_table import Kind, Rows, TypeTable, references

_AGGREGATES: Final = (Kind.STRUCT, Kind.UNION)
_POINTING: Final = (Kind.PTR, Kind.FUNC_PROTO, Kind.FUNC)
_MODIFYING: Final = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
_PASSING: Final = (*_POINTING, *_MODIFYING)
"""What does not need the whole of a type that it refers to, if nobody needs the whole of it."""
_NO_ROOTS: Final = (Kind.DATASEC, Kind.DECL_TAG)  # they say nothing that goes into DWARF


class KernelTypes(msgspec.Struct, frozen=True, eq=False):
    """The kernel's own types, prepared to be searched from many modules.

    Attributes:
        types: They.
        starts: int64, for each row and one more, where its references begin in ``targets``.
        targets: int64, the rows that are referred to.
        named: bool, for each row, whether its name tells it from all structures and unions.
    """

    types: TypeTable
    starts: Rows
    targets: Rows
    named: npt.NDArray[np.bool_]


def prepare(types: TypeTable) -> KernelTypes:
    """Sort the references of a kernel's types."""
    starts, targets = _sort(types, 0)
    rows = types.of_kind(*_AGGREGATES)
    _, number, uses = np.unique(types.name[rows], return_inverse=True, return_counts=True)
    named = np.zeros(len(types), dtype=np.bool_)
    named[rows] = (types.name[rows] > 0) & (uses[number] == 1)
    return KernelTypes(types, starts, targets, named)


def keep_reached(kernel: KernelTypes, types: TypeTable) -> TypeTable:
    """Leave out the kernel's types that a module does not need.

    Of structures that are only pointed to, declarations are left.

    Args:
        kernel: The kernel's own types.
        types: These, and behind them the module's (``read_types``).

    Returns:
        The same rows; what is left out is void.
    """
    first = len(kernel.types)
    starts, targets = _sort(types, first)
    starts = np.append(kernel.starts[:-1], kernel.starts[-1] + starts)
    targets = np.append(kernel.targets, targets)
    declarable = np.zeros(len(types), dtype=np.bool_)
    # a structure of the module's own with that name would be taken for it
    own = types.name[types.of_kind(*_AGGREGATES, first=first)]
    declarable[:first] = kernel.named & ~np.isin(types.name[:first], own)

    whole, touched = np.zeros((2, len(types)), dtype=np.bool_)
    passing = np.isin(types.kind, _PASSING)
    pointing = np.isin(types.kind, _POINTING)
    roots = np.arange(first, len(types))
    roots = roots[~np.isin(types.kind[first:], _NO_ROOTS)]
    whole_next, touched_next = roots[~passing[roots]], roots[passing[roots]]
    while len(whole_next) or len(touched_next):
        # an array has the size of its elements, and what has no name cannot be declared
        needed = touched_next[~passing[touched_next] & ~declarable[touched_next]]
        whole[whole_next] = touched[touched_next] = True
        inner = _follow(starts, targets, whole_next[~pointing[whole_next]])
        outer = _follow(starts, targets, whole_next[pointing[whole_next]])
        beyond = _follow(starts, targets, touched_next[passing[touched_next]])
        whole_next = _new(np.concatenate([needed, inner]), whole)
        touched_next = _new(np.concatenate([outer, beyond]), touched)

    declared = touched & ~whole & declarable
    kind = np.where(whole | touched, types.kind, np.uint8(Kind.VOID)).astype(np.uint8)
    kind[declared] = Kind.FWD
    # the flag of a declaration says that it is a union's
    flag = np.where(declared, types.kind == Kind.UNION, types.flag)
    return replace(types, kind=kind, flag=flag)


def _sort(types: TypeTable, first: int) -> tuple[Rows, Rows]:
    """Where the references of each row from ``first`` on begin, and those references."""
    owners, targets = references(types, first)
    order = np.argsort(owners, kind="stable")
    rows = np.arange(first, len(types) + 1)
    return owners[order].searchsorted(rows), targets[order]


def _follow(starts: Rows, targets: Rows, rows: Rows) -> Rows:
    """All that some rows refer to."""
    count = starts[rows + 1] - starts[rows]
    number = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    found: Rows = targets[np.repeat(starts[rows], count) + number]
    return found


def _new(rows: Rows, seen: npt.NDArray[np.bool_]) -> Rows:
    found: Rows = np.unique(rows)
    return found[~seen[found]]
