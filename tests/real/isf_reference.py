"""Run by the tests as ``isf_reference.py DUMP VMLINUX OUT``: a symbol file of a debug package.

It is what dwarf2json makes for volatility3, as far as its plugins for Linux can ask for it: they
name their types and variables in their sources, and drgn reads those from the DWARF, with all that
they lead to. Names are dwarf2json's: typedefs are looked through, and what has no tag has the name
of its typedef.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import volatility3
from drgn import Program, Type, TypeKind, TypeMember, sizeof
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

VOID: Final = {"kind": "base", "name": "void"}
SOURCES: Final = ("plugins/linux/**/*.py", "symbols/linux/**/*.py", "automagic/linux.py")
AGGREGATES: Final = {TypeKind.STRUCT: "struct", TypeKind.UNION: "union"}
INTEGERS: Final = {TypeKind.INT: "int", TypeKind.BOOL: "bool", TypeKind.FLOAT: "float"}

# drgn has them as the C standard does, DWARF and its readers as gcc does
NAMES: Final = {
    "long": "long int",
    "unsigned long": "long unsigned int",
    "long long": "long long int",
    "unsigned long long": "long long unsigned int",
    "short": "short int",
    "unsigned short": "short unsigned int",
}

# declared in C, defined in assembly or by the linker: drgn does not look for them
DECLARED: Final = {
    "kallsyms_num_syms": "unsigned int",
    "__start___tracepoints_ptrs": "tracepoint_ptr_t [1]",
}


class Reference:
    """One symbol file, as far as it is made."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.base: dict[str, dict[str, Any]] = {}
        self.users: dict[str, dict[str, Any]] = {}
        self.enums: dict[str, dict[str, Any]] = {}
        self.todo: list[tuple[str, Type]] = []
        self.unnamed = 0
        self._integer("void", 0, "void", is_signed=False)
        self._integer("pointer", 8, "int", is_signed=False)

    def _integer(self, name: str, size: int, kind: str, *, is_signed: bool) -> None:
        entry = {"size": size, "signed": is_signed, "kind": kind, "endian": "little"}
        self.base.setdefault(name, entry)

    def describe(self, it: Type, alias: str | None = None) -> dict[str, Any]:
        """How a type is referred to; ``alias`` is the typedef that led to it."""
        kind = it.kind
        if kind == TypeKind.TYPEDEF:
            return self.describe(it.type, it.name)
        if kind in AGGREGATES or kind == TypeKind.ENUM:
            self.unnamed += it.tag is None
            return self._named(it, it.tag or alias or f"unnamed_{self.unnamed}")
        described: dict[str, Any] = VOID
        if kind == TypeKind.POINTER:
            described = {"kind": "pointer", "subtype": self.describe(it.type)}
        elif kind == TypeKind.ARRAY:
            element = self.describe(it.type)
            described = {"kind": "array", "count": it.length or 0, "subtype": element}
        elif kind == TypeKind.FUNCTION:
            described = {"kind": "function"}
        elif kind in INTEGERS:
            is_signed = kind == TypeKind.FLOAT or (kind == TypeKind.INT and it.is_signed)
            sort = "char" if kind == TypeKind.INT and it.size == 1 else INTEGERS[kind]
            name = NAMES.get(it.name, it.name)
            self._integer(name, it.size, sort, is_signed=is_signed)
            described = {"kind": "base", "name": name}
        return described

    def _named(self, it: Type, name: str) -> dict[str, Any]:
        if it.kind == TypeKind.ENUM:
            if it.is_complete() and name not in self.enums:
                self.describe(it.type)
                constants = {each.name: each.value for each in it.enumerators}
                base = NAMES.get(it.type.name, it.type.name)
                entry = {"size": it.type.size, "base": base, "constants": constants}
                self.enums[name] = entry
            return {"kind": "enum", "name": name} if it.is_complete() else VOID
        sort = AGGREGATES[it.kind]
        if name not in self.users:
            with suppress(LookupError):
                whole = it if it.is_complete() else self.program.type(f"{sort} {name}")
                self.users[name] = {"size": whole.size, "kind": sort}
                self.todo.append((name, whole))
        return {"kind": sort, "name": name}

    def finish(self) -> None:
        """Describe all that those lead to."""
        while self.todo:
            name, it = self.todo.pop()
            self.users[name]["fields"] = dict(map(self._field, it.members, range(len(it.members))))

    def _field(self, member: TypeMember, number: int) -> tuple[str, dict[str, Any]]:
        described = self.describe(member.type)
        offset = member.bit_offset // 8
        if member.bit_field_size:
            word = 8 * sizeof(member.type)
            offset = member.bit_offset // word * (word // 8)
            described = {
                "kind": "bitfield",
                "bit_position": member.bit_offset % word,
                "bit_length": member.bit_field_size,
                "type": described,
            }
        field = {"type": described, "offset": offset}
        if member.name is not None:
            return member.name, field
        return f"unnamed_field_{number}", field | {"anonymous": True}


def main(dump: str, vmlinux: str, out: str) -> None:
    """Write the file."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])
    root = Path(volatility3.__file__).parent / "framework"
    sources = [path.read_text() for pattern in SOURCES for path in root.glob(pattern)]
    words = sorted({word for source in sources for word in re.findall(r"\w+", source)})
    reference = Reference(program)
    with open(vmlinux, "rb") as file:
        symbols = read_symbols(ELFFile(file))
    for word in words:
        for name in (f"struct {word}", f"union {word}", f"enum {word}", word):
            with suppress(LookupError, SyntaxError):
                reference.describe(program.type(name))
        with suppress(LookupError):
            symbols[word]["type"] = reference.describe(program.variable(word).type_)
    for name, declared in DECLARED.items():
        symbols[name]["type"] = reference.describe(program.type(declared))
    reference.finish()
    made = {
        "metadata": {
            "format": "6.2.0",
            "producer": {"name": "dwarf2json", "version": "0.9.0"},
            "linux": {"symbols": [], "types": []},
        },
        "base_types": reference.base,
        "user_types": reference.users,
        "enums": reference.enums,
        "symbols": symbols,
    }
    Path(out).write_text(json.dumps(made))


def read_symbols(vmlinux: ELFFile) -> dict[str, dict[str, Any]]:
    """Every symbol's address, and the banner."""
    sections = {section.name: section for section in vmlinux.iter_sections()}
    table = sections[".symtab"]
    assert isinstance(table, SymbolTableSection)
    symbols = {
        symbol.name: {"address": symbol["st_value"], "type": VOID}
        for symbol in table.iter_symbols()
        if symbol.name and symbol["st_shndx"] != "SHN_UNDEF"
    }
    constants = sections[".rodata"]
    start = symbols["linux_banner"]["address"] - constants["sh_addr"]
    banner = constants.data()[start:].partition(b"\0")[0] + b"\0"
    symbols["linux_banner"]["constant_data"] = base64.b64encode(banner).decode()
    return symbols


if __name__ == "__main__":
    main(*sys.argv[1:])
