"""Run by the tests as ``drgn_variables.py DUMP VMLINUX OTHER``: two files' variables compared.

For each variable that the first one, of one unit, describes once: whether the other has one of that
name at the same address and of the same type, but for its qualifiers and its own typedef.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict

from drgn import Object, Program, TypeKind, sizeof
from elftools.elf.elffile import ELFFile


def main(dump: str, *files: str) -> None:
    """Print a JSON object: names by outcome, and what both files say of those that differ."""
    outcomes: defaultdict[str, list[object]] = defaultdict(list)
    programs = [load(dump, path) for path in files]
    for name in names(files[0]):
        ours = programs[0].variable(name)
        if len(programs[1].symbols(name)) > 1:  # drgn gives any of them
            outcomes["ambiguous"].append(name)
            continue
        try:
            theirs = programs[1].variable(name)
        except LookupError:
            outcomes["absent"].append(name)
            continue
        told = tell(ours), tell(theirs)
        if told[0] == told[1]:
            outcomes["equal"].append(name)
        else:
            outcomes["different"].append([name, *told])
    json.dump(outcomes, sys.stdout)


def load(dump: str, vmlinux: str) -> Program:
    """A program with the debug information of one file."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])
    return program


def names(vmlinux: str) -> list[str]:
    """Those that have an address."""
    found: Counter[str] = Counter()
    with open(vmlinux, "rb") as file:
        (unit,) = ELFFile(file).get_dwarf_info().iter_CUs()
        for die in unit.iter_DIE_children(unit.get_top_DIE()):
            if die.tag == "DW_TAG_variable" and "DW_AT_location" in die.attributes:
                found[die.attributes["DW_AT_name"].value.decode()] += 1
    return [name for name, count in found.items() if count == 1]


def tell(variable: Object) -> tuple[str, int | None, int | None]:
    """Its type, size in bytes if it is known, and address."""
    kind = variable.type_
    while kind.kind == TypeKind.TYPEDEF:
        kind = kind.type
    is_open = kind.kind == TypeKind.ARRAY and kind.length is None
    name = re.sub(r"\b(const|volatile) ", "", kind.type_name()).replace(" ", "")
    return name, None if is_open else sizeof(kind), variable.address_


if __name__ == "__main__":
    main(*sys.argv[1:])
