"""Symbols of the loaded modules, found by following the kernel's list of modules.

The layout of ``struct module`` depends on the configuration and is not in VMCOREINFO, so it comes
from the kernel's BTF. A module keeps the symbols that kallsyms shows in ELF tables of its own
(kernel/module/kallsyms.c, ``add_kallsyms``), in memory that only the page tables lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.structures.kallsyms import UNPRINTABLE, SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.types.btf import Struct, read_structs
from vmcorefs.errors import FormatError

MAX_MODULES = 1 << 12
"""Most modules accepted; a machine with everything loaded has a few hundred."""

MAX_MODULE_SYMBOLS = 1 << 20
"""Most symbols accepted, of all modules together."""

MAX_MODULE_NAMES = 1 << 26
"""Most bytes of names accepted, of all modules together."""

# names of local labels, which modules keep if another section refers to them: gas/symbols.c,
# DOLLAR_LABEL_CHAR and LOCAL_LABEL_CHAR; gas/config/tc-riscv.h, FAKE_LABEL_NAME, with a space
_LABELS = b"\1\2 "
_NOT_IN_NAMES = UNPRINTABLE.translate(None, _LABELS)
_NAME_SIZE = 512  # KSYM_NAME_LEN since 6.1: /proc/kallsyms cuts longer names
_MAX_EXPORT = 64  # struct kernel_symbol has 12 or 24 bytes (include/linux/export-internal.h)
_UNFORMED = 3  # MODULE_STATE_UNFORMED (include/linux/module.h)
_STRUCTS = ("module", "mod_kallsyms", "kernel_symbol", "list_head")
# Elf64_Sym and Elf32_Sym: name, type, offset; and size
_SYMBOL = {8: ((0, 4), (8, 8), 24), 4: ((0, 4), (4, 4), 16)}


class _Budget(msgspec.Struct):
    """How much may still be read: a hostile list may name the same tables over and over."""

    symbols: int = MAX_MODULE_SYMBOLS
    names: int = MAX_MODULE_NAMES

    def take(self, name: str, symbols: int, names: int) -> None:
        self.symbols -= symbols
        self.names -= names
        if symbols < 0 or names < 0 or self.symbols < 0 or self.names < 0:
            raise FormatError(f"module {name}: {symbols} symbols, {names} bytes of names: too many")


def iter_modules(memory: KernelMemory, kernel: SymbolTable, btf: bytes) -> Iterator[SymbolTable]:
    """The symbols of each module, in the order in which /proc/kallsyms has them.

    Everything yielded before an error is sound.

    Args:
        memory: The kernel's virtual memory, translated by its page tables.
        kernel: The kernel's own symbols.
        btf: Its BTF.

    Raises:
        FormatError: if BTF lacks a member, or memory contradicts itself.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    structs = read_structs(btf, memory.byte_order, _STRUCTS)
    module = structs["module"]
    budget = _Budget()
    for position in iter_list(memory, kernel.require("modules"), structs["list_head"]):
        at = position - module.offset("list")
        if memory.integer(at + module.offset("state"), 4) != _UNFORMED:
            yield _read_module(memory, structs, at, budget)


def iter_list(memory: KernelMemory, head: int, list_head: Struct) -> Iterator[int]:
    """Where each node of a list with one node for a module is.

    Raises:
        FormatError: if the list does not end.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    following = list_head.offset("next")
    seen = {head}
    position = memory.pointer(head + following)
    while position != head:
        if position in seen or len(seen) > MAX_MODULES:
            raise FormatError(f"the list of modules does not end: {position:#x} after {len(seen)}")
        seen.add(position)
        yield position
        position = memory.pointer(position + following)


def _read_module(
    memory: KernelMemory, structs: Mapping[str, Struct], at: int, budget: _Budget
) -> SymbolTable:
    module, kallsyms = structs["module"], structs["mod_kallsyms"]
    # MODULE_NAME_LEN is 64 less a long (include/linux/moduleparam.h)
    stored = memory.read(at + module.offset("name"), 64 - memory.word_size)
    name = _string(stored)
    tables = memory.pointer(at + module.offset("kallsyms"))
    count = memory.integer(tables + kallsyms.offset("num_symtab"), 4)
    symtab, strtab, typetab = (
        memory.pointer(tables + kallsyms.offset(field)) for field in ("symtab", "strtab", "typetab")
    )
    exports = memory.integer(at + module.offset("num_syms"), 4)
    # the types follow the strings, directly once the module has been initialised
    budget.take(name, count + exports, typetab - strtab)
    strings = memory.read(strtab, typetab - strtab)
    types = memory.read(typetab, count).decode("latin-1").lower()
    symbols = _read_symtab(memory, symtab, count)
    names = _read_names(strings, symbols["name"].tolist(), budget)
    rows = [
        (value, kind, symbol)
        for symbol, value, kind in zip(names, symbols["value"].tolist(), types, strict=True)
        if symbol  # s_show leaves out those with no name
    ]
    table = memory.pointer(at + module.offset("syms"))
    candidates = {(symbol, value) for value, _, symbol in rows}
    exported = _find_exported(
        memory,
        structs["kernel_symbol"],
        (table, exports),
        candidates,
        lambda: budget.take(name, 0, _NAME_SIZE),
    )
    return SymbolTable(
        np.array([value for value, _, _ in rows], dtype=np.uint64),
        "".join(
            kind.upper() if (symbol, value) in exported else kind for value, kind, symbol in rows
        ),
        tuple(symbol for _, _, symbol in rows),
        memory.word_size,
        name,
        at,
    )


def _read_symtab(memory: KernelMemory, symtab: int, count: int) -> npt.NDArray[np.void]:
    (name_at, name_size), (value_at, value_size), size = _SYMBOL[memory.word_size]
    dtype = np.dtype(
        {
            "names": ["name", "value"],
            "formats": [f"{memory.byte_order}u{width}" for width in (name_size, value_size)],
            "offsets": [name_at, value_at],
            "itemsize": size,
        }
    )
    return np.frombuffer(memory.read(symtab, count * size), dtype=dtype)


def _find_exported(
    memory: KernelMemory,
    entry: Struct,
    exports: tuple[int, int],
    candidates: set[tuple[str, int]],
    take_name: Callable[[], None],
) -> set[tuple[str, int]]:
    """Those of ``candidates`` (name, address) that the module exports: their types are in capitals.

    ``exports`` is the table's address and length; ``take_name`` is called before a name is read.
    See kernel/module/kallsyms.c, ``is_exported``. An entry's fields are pointers, or with
    CONFIG_HAVE_ARCH_PREL32_RELOCATIONS offsets from their own address.
    """
    start, count = exports
    if not 0 < entry.size <= _MAX_EXPORT:
        raise FormatError(f"BTF: struct kernel_symbol has {entry.size} bytes")
    table = memory.read(start, count * entry.size) if count else b""
    addresses = {address for _, address in candidates}
    mask = (1 << 8 * memory.word_size) - 1

    def pointer(row: int, field: str) -> int:
        if field in entry.offsets:
            place = row * entry.size + entry.offset(field)
            return memory.decode(table[place : place + memory.word_size])
        place = row * entry.size + entry.offset(f"{field}_offset")
        offset = memory.decode(table[place : place + 4])
        return (start + place + offset - (offset >> 31 << 32)) & mask

    exported = set()
    for row in range(count):
        address = pointer(row, "value")
        if address in addresses:
            take_name()
            exported.add((_read_string(memory, pointer(row, "name")), address))
    return exported & candidates


def _read_names(strings: bytes, offsets: Iterable[int], budget: _Budget) -> Iterator[str]:
    """The string at each offset; in a hostile table all may lead to one long string."""
    for offset in offsets:
        name = _string(strings[offset : offset + _NAME_SIZE - 1])
        budget.take(name, 0, len(name))
        yield name


def _read_string(memory: KernelMemory, vaddr: int) -> str:
    return _string(memory.string(vaddr, _NAME_SIZE - 1))


def _string(data: bytes) -> str:
    """The NUL-terminated string that ``data`` starts with.

    Raises:
        FormatError: if it could not be in a line of /proc/kallsyms.
    """
    text = data.partition(b"\0")[0]
    if text.translate(None, _NOT_IN_NAMES) != text:
        raise FormatError(f"a module's name or symbol is {text[:16]!r}")
    return text.decode("latin-1")
