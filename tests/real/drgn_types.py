"""Run by the tests as ``drgn_types.py DUMP VMLINUX OTHER``: the types of two files compared.

For each structure and union that the first one names, by name: whether the other has one of the
same size whose members have the same names, offsets and widths in bits. Several types of one name
count as equal if one of them is.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict

from drgn import Program, Type, TypeKind
from elftools.elf.elffile import ELFFile

KINDS = {"DW_TAG_structure_type": "struct", "DW_TAG_union_type": "union"}
Layout = tuple[int, tuple[tuple[str, int, int], ...]]


def main(dump: str, *files: str) -> None:
    """Print a JSON object: names by outcome."""
    ours, theirs = (layouts(dump, path, names(files[0])) for path in files)
    outcomes: defaultdict[str, list[str]] = defaultdict(list)
    for name, layout in ours.items():
        other = theirs.get(name)
        outcome = "absent" if other is None else "equal" if other == layout else "different"
        outcomes[outcome].append(name)
    json.dump(outcomes, sys.stdout)


def names(vmlinux: str) -> list[str]:
    """``struct list_head`` and so on: those that a file of one unit names once."""
    found: defaultdict[str, int] = defaultdict(int)
    with open(vmlinux, "rb") as file:
        (unit,) = ELFFile(file).get_dwarf_info().iter_CUs()
        for die in unit.iter_DIE_children(unit.get_top_DIE()):
            kind = KINDS.get(str(die.tag))
            if (
                kind
                and "DW_AT_name" in die.attributes
                and "DW_AT_declaration" not in die.attributes
            ):
                found[f"{kind} {die.attributes['DW_AT_name'].value.decode()}"] += 1
    return [name for name, count in found.items() if count == 1]


def layouts(dump: str, vmlinux: str, wanted: list[str]) -> dict[str, Layout]:
    """The layout of each type that the file has."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])
    found = {}
    for name in wanted:
        try:
            found[name] = layout(program.type(name))
        except LookupError:
            continue
    return found


def layout(kind: Type) -> Layout:
    """Size in bytes, and name, offset and width in bits of each member, anonymous ones opened."""
    return kind.size or 0, tuple(members(kind, 0))


def members(kind: Type, base: int) -> list[tuple[str, int, int]]:
    """The members of a type, at an offset in bits."""
    rows = []
    for member in kind.members or ():
        at = base + member.bit_offset
        if member.name:
            rows.append((member.name, at, member.bit_field_size or 0))
        elif member.type.kind in (TypeKind.STRUCT, TypeKind.UNION):
            rows += members(member.type, at)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
