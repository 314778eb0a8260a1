"""Run by the tests as ``-m tests.real.drgn_modules DUMP TREE MODULE``: two debug files compared.

drgn finds the module's first file by itself: it is given the tree as a directory to search. For
each structure that the file names: whether the other file, MODULE, has one of the same layout, and
that one's members. For each function: what both say of it, unless the other one has put it into
others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from drgn import Object, Program, Type
from elftools.elf.elffile import ELFFile

from tests.real.drgn_types import KINDS, layout


def main(dump: str, tree: str, other: str) -> None:
    """Print a JSON object."""
    name = Path(other).stem
    ours, theirs = Program(), Program()
    for program in (ours, theirs):
        program.set_core_dump(dump)
    ours.debug_info_options.kernel_directories = (tree,)
    ours.load_default_debug_info()
    theirs.load_debug_info([f"{tree}/vmlinux", other])
    (module,) = (module for module in ours.modules() if module.name == name)
    assert module.debug_file_path is not None
    structs, functions = names(module.debug_file_path)
    outcomes: dict[str, list[str]] = {"equal": [], "different": []}
    for struct in structs:
        same = layout(ours.type(struct)) == layout(theirs.type(struct))
        outcomes["equal" if same else "different"].append(struct)
    told = {
        "file": module.debug_file_path,
        "functions": {
            function: [describe(program.function(function)) for program in (ours, theirs)]
            for function in functions
            if theirs.function(function).address_ is not None
        },
        "members": {struct: members(theirs.type(struct)) for struct in structs},
        "symbols": [program.symbol("virtblk_probe").address for program in (ours, theirs)],
    }
    json.dump({**outcomes, **told}, sys.stdout)


def names(file: str) -> tuple[list[str], list[str]]:
    """The structures that a file of one unit describes, and its functions."""
    with open(file, "rb") as opened:
        (unit,) = ELFFile(opened).get_dwarf_info().iter_CUs()
        dies = [
            (str(die.tag), die.attributes["DW_AT_name"].value.decode())
            for die in unit.iter_DIE_children(unit.get_top_DIE())
            if "DW_AT_name" in die.attributes and "DW_AT_declaration" not in die.attributes
        ]
    structs = [f"{KINDS[tag]} {name}" for tag, name in dies if tag in KINDS]
    return structs, [name for tag, name in dies if tag == "DW_TAG_subprogram"]


def members(struct: Type) -> tuple[int | None, dict[str, int]]:
    """A structure's size, and the offset of each member that has a name and is no bit-field."""
    named = [it for it in struct.members if it.name is not None and not it.bit_field_size]
    return struct.size, {str(it.name): it.bit_offset // 8 for it in named}


def describe(function: Object) -> str:
    """Its type, with its parameters' names, and where it is."""
    return f"{function.type_} {function.address_:#x}"


if __name__ == "__main__":
    main(*sys.argv[1:])
