"""DWARF made of BTF written by hand, judged by pyelftools."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from tests.builders.btf import (
    ARRAY,
    CONST,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    INT,
    PTR,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    Writer,
)
from vmcorefs.core.debuginfo.declarations import declare
from vmcorefs.core.debuginfo.dwarf import Places, make_dwarf
from vmcorefs.core.debuginfo.elf_file import Contents
from vmcorefs.core.debuginfo.vmlinux import make_vmlinux
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.types.btf_table import read_types

T = 0xFFFFFFFF81000000
CODE = (T, 0x1000)


def read(
    btf: Writer,
    *,
    functions: Mapping[str, tuple[int, int]] = {},
    sizes: Mapping[str, int] = {},
    variables: Mapping[str, int] = {},
    constants: Mapping[str, int] = {},
    char_is_signed: bool = True,
) -> list[DIE]:
    """The entries below the unit, of DWARF made of BTF."""
    order: ByteOrder = btf.byte_order
    types, declared = declare(read_types(btf.finish(), order), sizes)
    places = Places(functions, variables, constants, CODE, sources=("kernel/printk/printk.c",))
    dwarf = make_dwarf(types, places, declared, byte_order=order, char_is_signed=char_is_signed)
    table = SymbolTable(np.array([T], dtype=np.uint64), "T", ("_stext",))
    data = make_vmlinux(table, Contents(dwarf=dwarf), machine=62, byte_order=order)
    info = ELFFile(io.BytesIO(data)).get_dwarf_info()
    (unit,) = info.iter_CUs()
    top = unit.get_top_DIE()
    assert top.attributes["DW_AT_low_pc"].value == CODE[0]
    assert top.attributes["DW_AT_high_pc"].value == CODE[1]
    lines = info.line_program_for_CU(unit)
    assert lines is not None
    assert [file.name for file in lines.header["file_entry"]] == [b"kernel/printk/printk.c"]
    assert lines.get_entries() == []
    return list(top.iter_children())


def tell(die: DIE) -> dict[str, Any]:
    """Tag, attributes and children, as they are easily compared; a type is its description."""
    told: dict[str, Any] = {"tag": str(die.tag).removeprefix("DW_TAG_")}
    for name, attribute in die.attributes.items():
        key = name.removeprefix("DW_AT_")
        if key == "type":
            target = die.get_DIE_from_attribute(name)
            told[key] = (
                target.attributes["DW_AT_name"].value.decode()
                if ("DW_AT_name" in target.attributes)
                else str(target.tag).removeprefix("DW_TAG_")
            )
        else:
            value = attribute.value
            told[key] = value.decode() if isinstance(value, bytes) else value
    children = [tell(child) for child in die.iter_children()]
    return {**told, "children": children} if die.has_children else told


def integer(btf: Writer, name: str = "int", size: int = 4, encoding: int = 1) -> None:
    btf.add(INT, name, size, [encoding << 24 | 8 * size])


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_structure(byte_order: ByteOrder) -> None:
    btf = Writer(byte_order)
    integer(btf)
    btf.add_struct("pair", 16, [("first", 1, 0), ("", 3, 32), ("self", 4, 64)])
    btf.add_struct("", 4, [("left", 1, 0), ("right", 1, 0)], kind=UNION)
    btf.add(PTR, "", 2)

    dies = read(btf)

    assert tell(dies[1]) == {
        "tag": "structure_type",
        "name": "pair",
        "byte_size": 16,
        "children": [
            {"tag": "member", "name": "first", "type": "int", "data_member_location": 0},
            {"tag": "member", "type": "union_type", "data_member_location": 4},
            {"tag": "member", "name": "self", "type": "pointer_type", "data_member_location": 8},
        ],
    }
    assert [child["name"] for child in tell(dies[2])["children"]] == ["left", "right"]
    assert tell(dies[3]) == {"tag": "pointer_type", "byte_size": 8, "type": "pair"}


def test_bit_fields_of_both_encodings() -> None:
    btf = Writer()
    integer(btf)
    btf.add(INT, "int", 4, [2 << 16 | 3])  # an integer of 3 bits, 2 bits into its word
    btf.add_struct("new", 4, [("a", 1, 5 << 24 | 3), ("b", 1, 32)], flag=1)
    btf.add_struct("old", 4, [("c", 2, 8), ("d", 1, 32)])

    dies = read(btf)

    place = ("bit_size", "data_bit_offset", "data_member_location")
    told = [tell(die)["children"] for die in dies[2:4]]
    assert [[[member.get(key) for key in place] for member in one] for one in told] == [
        [[5, 3, None], [None, None, 4]],
        [[3, 10, None], [None, None, 4]],
    ]


def test_base_types() -> None:
    btf = Writer()
    integer(btf, "int")
    integer(btf, "unsigned int", encoding=0)
    integer(btf, "char", 1, encoding=0)
    integer(btf, "unsigned char", 1, encoding=0)
    integer(btf, "signed char", 1, encoding=1)
    integer(btf, "_Bool", 1, encoding=4)
    btf.add(FLOAT, "double", 8)

    encodings = [die.attributes["DW_AT_encoding"].value for die in read(btf)]
    unsigned = [die.attributes["DW_AT_encoding"].value for die in read(btf, char_is_signed=False)]

    assert encodings == [5, 7, 6, 8, 6, 2, 4]  # DW_ATE_*
    assert unsigned == [5, 7, 8, 8, 6, 2, 4]


def test_enumerations() -> None:
    btf = Writer()
    btf.add_list(ENUM, "state", 4, [("ON", 1), ("TOP", 0xFFFFFFFF)])
    btf.add_list(ENUM, "error", 4, [("LOST", 0xFFFFFFFF)], flag=1)
    btf.add_list(ENUM64, "wide", 8, [("HIGH", 5, 0x80000000)])

    told = [tell(die) for die in read(btf)]

    assert [one["byte_size"] for one in told] == [4, 4, 8]
    values = [[row["const_value"] for row in one["children"]] for one in told]
    assert values == [[1, 2**32 - 1], [2**64 - 1], [2**63 + 5]]


def test_what_is_void_has_no_type() -> None:
    btf = Writer()
    btf.add(PTR, "", 0)
    btf.add(CONST, "", 0)
    btf.add(PTR, "", 2)
    btf.add(TYPE_TAG, "user", 0)
    btf.add(PTR, "", 4)

    assert [tell(die) for die in read(btf)] == [
        {"tag": "pointer_type", "byte_size": 8},
        {"tag": "const_type"},
        {"tag": "pointer_type", "byte_size": 8, "type": "const_type"},
        {"tag": "pointer_type", "byte_size": 8},
    ]


def test_arrays_and_those_that_go_on() -> None:
    btf = Writer()
    integer(btf)
    btf.add(ARRAY, "", 0, [1, 1, 8])
    btf.add(ARRAY, "", 0, [1, 1, 0])

    assert [tell(die) for die in read(btf)[1:]] == [
        {"tag": "array_type", "type": "int", "children": [{"tag": "subrange_type", "count": 8}]},
        {"tag": "array_type", "type": "int", "children": [{"tag": "subrange_type"}]},
    ]


def test_declarations_and_typedefs() -> None:
    btf = Writer()
    btf.add(FWD, "opaque", 0)
    btf.add(FWD, "either", 0, flag=1)
    btf.add(TYPEDEF, "opaque_t", 1)

    assert [tell(die) for die in read(btf)] == [
        {"tag": "structure_type", "name": "opaque", "declaration": True},
        {"tag": "union_type", "name": "either", "declaration": True},
        {"tag": "typedef", "name": "opaque_t", "type": "opaque"},
    ]


def test_functions_whose_place_is_known() -> None:
    btf = Writer()
    integer(btf)
    btf.add_list(FUNC_PROTO, "", 1, [("fd", 1), ("", 0)])
    btf.add(FUNC, "do_one", 2, vlen=1)
    btf.add(FUNC, "elsewhere", 2)

    dies = read(btf, functions={"do_one": (T + 16, 32)})

    parameters = [
        {"tag": "formal_parameter", "type": "int"},
        {"tag": "unspecified_parameters"},
    ]
    assert [tell(die) for die in dies[1:]] == [
        {"tag": "subroutine_type", "prototyped": True, "type": "int", "children": parameters},
        {
            "tag": "subprogram",
            "name": "do_one",
            "prototyped": True,
            "type": "int",
            "low_pc": T + 16,
            "high_pc": 32,
            "children": [{**parameters[0], "name": "fd"}, parameters[1]],
        },
    ]


def test_variables_of_btf_and_of_the_kernels_sources() -> None:
    btf = Writer()
    integer(btf, "long unsigned int", 8, encoding=0)
    btf.add_struct("list_head", 16, [])
    btf.add(VAR, "this_cpu_off", 1, [1])
    btf.add(VAR, "nowhere", 1, [1])

    dies = read(
        btf,
        sizes={"modules": 16, "__per_cpu_offset": 64, "jiffies": 8, "init_task": 9000},
        variables={"this_cpu_off": 0x18, "modules": T, "__per_cpu_offset": T + 8},
    )

    told = [tell(die) for die in dies if die.tag == "DW_TAG_variable"]
    assert [(one["name"], one["type"], bytes(one["location"])) for one in told] == [
        ("this_cpu_off", "long unsigned int", b"\x03" + (0x18).to_bytes(8, "little")),
        ("__per_cpu_offset", "array_type", b"\x03" + (T + 8).to_bytes(8, "little")),
        ("modules", "list_head", b"\x03" + T.to_bytes(8, "little")),
    ]
    (array,) = (die for die in dies if die.tag == "DW_TAG_array_type")
    assert tell(array)["children"] == [{"tag": "subrange_type", "count": 8}]


def test_a_variable_that_has_become_a_number() -> None:
    btf = Writer()
    integer(btf)

    (_, die) = read(btf, constants={"write_expire": 1250})

    assert tell(die) == {
        "tag": "variable",
        "name": "write_expire",
        "type": "int",
        "const_value": 1250,
    }
