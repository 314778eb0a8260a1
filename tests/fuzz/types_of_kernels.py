"""What is made of a kernel's BTF: DWARF, and volatility3's symbol file."""

from __future__ import annotations

import json

import numpy as np

from tests.builders import btf as btf_kinds
from tests.builders.btf import Writer
from tests.builders.kallsyms import TEXT
from tests.fuzz.target import target
from vmcorefs.core.debuginfo.declarations import declare
from vmcorefs.core.debuginfo.dwarf import Places, make_dwarf
from vmcorefs.core.debuginfo.isf import SymbolFile
from vmcorefs.core.debuginfo.variables import VARIABLES as KNOWN
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.types.btf_table import read_types

BANNER = b"Linux version 6.1.0-test (me@here) #1 SMP\n"


def _types() -> Writer:
    btf = Writer()
    btf.add(btf_kinds.INT, "int", 4, [1 << 24 | 32])
    btf.add_struct("list_head", 16, [("next", 3, 0), ("prev", 3, 64), ("", 4, 0)])
    btf.add(btf_kinds.PTR, "", 2)
    btf.add_struct("", 4, [("bit", 1, 3 << 24 | 2)], kind=btf_kinds.UNION, flag=1)
    btf.add(btf_kinds.ARRAY, "", 0, [2, 1, 8])
    btf.add_list(btf_kinds.ENUM, "maple_type", 4, [("ON", 1), ("NR_SOFTIRQS", 2)])
    btf.add_list(btf_kinds.ENUM64, "wide", 8, [("HIGH", 1, 2)])
    btf.add_list(btf_kinds.FUNC_PROTO, "", 1, [("list", 3), ("", 0)])
    btf.add(btf_kinds.FUNC, "f", 8, vlen=1)
    btf.add(btf_kinds.TYPEDEF, "list_t", 2)
    btf.add(btf_kinds.TYPE_TAG, "rcu", 10)
    btf.add(btf_kinds.CONST, "", 11)
    btf.add(btf_kinds.VAR, "x", 1, [0])
    btf.add(btf_kinds.DATASEC, ".data..percpu", 4, [13, 0, 4], vlen=1)
    btf.add_struct("", 24, [("seq", 1, 0), ("timekeeper", 2, 64)])
    btf.add_struct("softirq_action", 8, [("action", 3, 0)])
    btf.add(btf_kinds.INT, "unsigned char", 1, [8])
    return btf


def _itself() -> Writer:
    btf = _types()
    btf.add(btf_kinds.TYPEDEF, "u64", 19)
    btf.add(btf_kinds.CONST, "", 18)
    return btf


def _deep() -> Writer:
    btf = _types()
    for inner in range(17, 17 + 3000):
        btf.add_struct("box", 4, [("inner", inner, 0)])
    return btf


def _pointers(first: int) -> Writer:
    """A chain of them, from the type ``first`` on."""
    btf = _types()
    for pointed in range(first, first + 3000):
        btf.add(btf_kinds.PTR, "", pointed)
    return btf


def _alike() -> Writer:
    """Structures whose members all have one name, of 400 bytes, and typedefs of one without."""
    btf = _types()
    name = btf.name("x" * 400)
    for _ in range(30):
        btf.add(btf_kinds.STRUCT, "same", 4, [name, 1, 0] * 1000, vlen=1000)
    btf.add(btf_kinds.STRUCT, "", 4, [name, 1, 0] * 1000, vlen=1000)
    for number in range(300):
        btf.add(btf_kinds.TYPEDEF, f"t{number}", 48)
    return btf


TYPES = {"valid": [_types().finish()], "nasty": [_itself().finish(), _deep().finish()]}


@target("types", **TYPES)
def _make_types(data: bytes) -> None:
    types, declared = declare(read_types(data, "<"), dict.fromkeys(KNOWN, 4096))
    variables = dict.fromkeys(KNOWN, TEXT)
    places = Places({"f": (TEXT, 16)}, variables, {"write_expire": 5}, (TEXT, 64))
    made = make_dwarf(types, places, declared, byte_order="<", char_is_signed=True)
    assert len(made.entries.info) < 100 * len(data) + 1000


@target(
    "isf",
    valid=TYPES["valid"],
    nasty=[
        *TYPES["nasty"],
        *(each.finish() for each in (_pointers(1), _pointers(18), _alike())),
        _types().finish().replace(b"list_head", b"x" * 9 * 9),
    ],
)
def _make_symbol_file(data: bytes) -> None:
    types, declared = declare(read_types(data, "<"), dict.fromkeys(KNOWN, 4096))
    names = (*KNOWN, "linux_banner")
    kernel = SymbolTable(np.full(len(names), TEXT, dtype=np.uint64), "D" * len(names), names)
    made = json.loads(SymbolFile(types, char_is_signed=True).finish(kernel, declared, BANNER))
    assert made["symbols"].keys() == set(names)
    known = {"base": made["base_types"], "enum": made["enums"]}
    for it in made["user_types"].values():
        for field in it["fields"].values():
            described = field["type"].get("type", field["type"])
            if described["kind"] in known:
                assert described["name"] in known[described["kind"]]
