"""Where a kernel's or a module's functions and variables are, for the debug file made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vmcorefs.core.debuginfo.dwarf import Places
from vmcorefs.core.structures.kallsyms import SymbolTable


def sizes_of(symbols: SymbolTable, ends: Sequence[int] = ()) -> dict[str, int]:
    """Of each symbol, the bytes up to the next address that has one, or to one of ``ends``."""
    places = np.unique(np.append(symbols.addresses, np.array(ends, dtype=np.uint64)))
    sizes = np.diff(places, append=places[-1:]).astype(np.int64)
    found = sizes[places.searchsorted(symbols.addresses)]
    return dict(zip(symbols.names, found.tolist(), strict=True))


def size_at(symbols: SymbolTable, address: int) -> int:
    """The bytes from an address up to the next one that a symbol has; 0 if none follows."""
    above = symbols.addresses[symbols.addresses > np.uint64(address)]
    return int(above.min()) - address if len(above) else 0


def find_places(
    symbols: SymbolTable,
    code: tuple[int, int],
    *,
    ends: Sequence[int] = (),
    constants: Mapping[str, int] = {},
    unit: str = "vmlinux",
    sources: tuple[str, ...] = (),
) -> Places:
    """Where functions and variables are, by name.

    Args:
        symbols: The symbols.
        code: Where code begins, and how many bytes it is.
        ends: Where sections end.
        constants: Values of variables that the compiler has left no place for.
        unit: The name of the file that the code is of.
        sources: Names of source files.
    """
    sizes = sizes_of(symbols, ends)
    functions: dict[str, tuple[int, int]] = {}
    variables: dict[str, int] = {}
    repeated: set[str] = set()
    rows = zip(symbols.names, symbols.types, symbols.addresses.tolist(), strict=True)
    for name, kind, address in rows:
        if kind not in "tTwW":
            variables.setdefault(name, address)
        elif name in functions:
            repeated.add(name)  # BTF does not say which of them it means
        else:
            functions[name] = address, sizes[name]
    for name in repeated:
        del functions[name]
    return Places(functions, variables, constants, code, unit, sources)
