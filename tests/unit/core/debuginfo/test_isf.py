"""volatility3's symbol file, made of BTF written by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.builders.btf import (
    ARRAY,
    CONST,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC_PROTO,
    FWD,
    INT,
    PTR,
    TYPEDEF,
    UNION,
    VAR,
    Writer,
)
from tests.builders.kallsyms import make_table
from vmcorefs.core.debuginfo import isf
from vmcorefs.core.debuginfo.isf import ModuleTypes, SymbolFile
from vmcorefs.core.structures.types.btf_table import read_types
from vmcorefs.errors import FormatError

T = 0xFFFFFFFF81000000
BANNER = b"Linux version 6.1.0 (me@here) #1\n"
SYMBOLS = [(0x40, "A", "runqueues"), (T, "T", "_text"), (T + 0x100, "D", "linux_banner")]
INTEGER = {"kind": "base", "name": "int"}


def read(
    btf: Writer, declared: Mapping[str, int] = {}, *, char_is_signed: bool = True
) -> dict[str, Any]:
    """The file, decoded."""
    types, table = read_types(btf.finish(), "<"), make_table(SYMBOLS)
    made = SymbolFile(types, char_is_signed=char_is_signed)
    result: dict[str, Any] = json.loads(made.finish(table, declared, BANNER))
    return result


def with_int() -> Writer:
    """Type 1 is ``int``."""
    btf = Writer()
    btf.add(INT, "int", 4, [1 << 24 | 32])
    return btf


def test_a_structure_with_one_inside_that_has_no_name() -> None:
    btf = with_int()
    btf.add_struct("node", 24, [("id", 1, 0), ("", 3, 32), ("next", 4, 64), ("names", 6, 128)])
    btf.add_struct("", 4, [("left", 1, 0), ("right", 1, 0)], kind=UNION)
    btf.add(PTR, "", 5)
    btf.add(CONST, "", 2)
    btf.add(ARRAY, "", 0, [1, 1, 2])

    said = read(btf)["user_types"]

    assert said["node"] == {
        "size": 24,
        "kind": "struct",
        "fields": {
            "id": {"type": INTEGER, "offset": 0},
            "unnamed_field_1": {
                "type": {"kind": "union", "name": "unnamed.3"},
                "offset": 4,
                "anonymous": True,
            },
            "next": {
                "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "node"}},
                "offset": 8,
            },
            "names": {"type": {"kind": "array", "count": 2, "subtype": INTEGER}, "offset": 16},
        },
    }
    assert list(said["unnamed.3"]["fields"]) == ["left", "right"]


def test_a_structure_without_a_name_has_those_of_its_typedefs() -> None:
    btf = with_int()
    btf.add_struct("", 4, [("val", 1, 0)])
    btf.add(TYPEDEF, "kuid_t", 2)
    btf.add(TYPEDEF, "kgid_t", 2)
    btf.add(TYPEDEF, "alias", 3)
    btf.add_struct("cred", 12, [("uid", 3, 0), ("gid", 4, 32), ("other", 5, 64)])

    said = read(btf)["user_types"]

    assert said.keys() == {"kuid_t", "kgid_t", "cred"}
    assert said["kuid_t"] == said["kgid_t"]
    fields = said["cred"]["fields"].values()
    assert {field["type"]["name"] for field in fields} == {"kuid_t"}


def test_types_of_one_name_are_told_apart() -> None:
    btf = with_int()
    btf.add_struct("walk", 4, [("one", 1, 0)])
    btf.add_struct("walk", 8, [("other", 1, 0)])
    btf.add_struct("box", 12, [("first", 2, 0), ("second", 3, 32)])

    said = read(btf)["user_types"]

    assert said["walk"]["size"] == 4
    second = said["box"]["fields"]["second"]["type"]
    assert said[second["name"]]["fields"].keys() == {"other"}


def test_bit_fields_lie_in_a_word_of_their_type() -> None:
    btf = with_int()
    btf.add_struct("new", 8, [("a", 1, 5 << 24 | 3), ("b", 1, 6 << 24 | 40)], flag=1)
    btf.add_struct("packed", 5, [("c", 1, 4 << 24 | 30)], flag=1)
    btf.add(INT, "int", 4, [2 << 16 | 3])  # an integer of 3 bits, 2 bits into its word
    btf.add_struct("old", 4, [("d", 4, 8)])

    said = read(btf)["user_types"]

    fields = {name: field for each in said.values() for name, field in each["fields"].items()}
    assert {
        name: (field["offset"], field["type"]["bit_position"], field["type"]["bit_length"])
        for name, field in fields.items()
    } == {"a": (0, 3, 5), "b": (4, 8, 6), "c": (3, 6, 4), "d": (0, 10, 3)}
    assert fields["a"]["type"]["kind"] == "bitfield"
    assert fields["a"]["type"]["type"] == INTEGER


def test_base_types() -> None:
    btf = with_int()
    for name, size, encoding in (("char", 1, 0), ("_Bool", 1, 4), ("unsigned int", 4, 0)):
        btf.add(INT, name, size, [encoding << 24 | 8 * size])
    btf.add(FLOAT, "double", 8)

    said = read(btf)["base_types"]

    told = {name: (each["size"], each["signed"], each["kind"]) for name, each in said.items()}
    assert {name: told[name] for name in ("void", "pointer", "int", "_Bool", "double")} == {
        "void": (0, False, "void"),
        "pointer": (8, False, "int"),
        "int": (4, True, "int"),
        "_Bool": (1, False, "bool"),
        "double": (8, True, "float"),
    }
    assert told["char"] == (1, True, "char")
    assert read(btf, char_is_signed=False)["base_types"]["char"]["signed"] is False
    assert {each["endian"] for each in said.values()} == {"little"}


def test_enumerations_have_a_base_of_their_size_and_sign() -> None:
    btf = with_int()
    btf.add_list(ENUM, "state", 4, [("ON", 1), ("TOP", 0xFFFFFFFF)])
    btf.add_list(ENUM, "error", 4, [("LOST", 0xFFFFFFFF)], flag=1)
    btf.add_list(ENUM64, "wide", 8, [("HIGH", 1, 0x80000000)])
    btf.add_list(ENUM, "odd", 3, [("NO", 1)])
    btf.add_struct("box", 8, [("state", 2, 0), ("odd", 5, 32)])

    said = read(btf)

    values = {name: each["constants"] for name, each in said["enums"].items()}
    assert values == {
        "state": {"ON": 1, "TOP": 0xFFFFFFFF},
        "error": {"LOST": -1},
        "wide": {"HIGH": 0x8000000000000001},
    }
    assert said["enums"]["error"]["base"] == "int"
    for each in said["enums"].values():
        base = said["base_types"][each["base"]]
        assert (base["size"], base["kind"]) == (each["size"], "int")
        assert base["signed"] is (min(each["constants"].values()) < 0)
    fields = said["user_types"]["box"]["fields"]
    assert fields["state"]["type"] == {"kind": "enum", "name": "state"}
    assert fields["odd"]["type"] == {"kind": "base", "name": "void"}


def test_symbols_have_their_link_addresses_and_what_types_are_known() -> None:
    btf = with_int()
    btf.add_struct("rq", 8, [("nr", 1, 0)])
    btf.add(VAR, "runqueues", 2, [1])
    btf.add_list(FUNC_PROTO, "", 0, [])
    btf.add(PTR, "", 4)

    said = read(btf, {"_text": 5})["symbols"]

    assert said["runqueues"] == {"address": 0x40, "type": {"kind": "struct", "name": "rq"}}
    assert said["_text"]["address"] == T
    assert said["_text"]["type"] == {"kind": "pointer", "subtype": {"kind": "function"}}
    assert base64.b64decode(said["linux_banner"]["constant_data"]) == BANNER + b"\0"
    assert said["linux_banner"]["type"]["count"] == len(BANNER) + 1


def test_what_is_only_declared_is_named() -> None:
    btf = with_int()
    btf.add(FWD, "hidden", 0, flag=1)
    btf.add(PTR, "", 2)
    btf.add_struct("box", 8, [("it", 3, 0)])

    said = read(btf)["user_types"]

    assert said.keys() == {"box"}
    pointer = said["box"]["fields"]["it"]["type"]
    assert pointer["subtype"] == {"kind": "union", "name": "hidden"}


def test_modules_go_on_where_the_kernel_ends() -> None:
    btf = with_int()
    btf.add_struct("list", 4, [("head", 1, 0)])
    own = read_types(btf.finish(), "<")
    file = SymbolFile(own, char_is_signed=True)
    first, names = len(own), len(btf.strings)
    for module, size in (("ext4", 8), ("xfs", 16)):
        more = Writer(names=names)
        more.add_struct("list", size, [("inner", 2, 0), ("other", first + 1, 32)])
        more.add_list(ENUM, f"{module}_mode", 4, [("ON", 1)])
        more.add(INT, "int", 4, [1 << 24 | 32])
        more.add(INT, f"{module}_int", 2, [16])
        file.add_module(ModuleTypes(module, read_types(more.finish(), "<", own), first))
    text = file.finish(make_table(SYMBOLS), {}, BANNER)
    said = json.loads(text)

    sizes = {name: each["size"] for name, each in said["user_types"].items()}
    assert sizes == {"list": 4, f"list.{first}.ext4": 8, f"list.{first}.xfs": 16}
    assert said["user_types"][f"list.{first}.xfs"]["fields"] == {
        "inner": {"type": {"kind": "struct", "name": "list"}, "offset": 0},
        "other": {"type": {"kind": "enum", "name": "xfs_mode"}, "offset": 4},
    }
    assert said["enums"].keys() == {"ext4_mode", "xfs_mode"}
    assert said["base_types"].keys() >= {"int", "ext4_int", "xfs_int"}
    assert text.count(b'"int":{') == 1


def test_a_module_that_cannot_be_described_leaves_nothing() -> None:
    btf = with_int()
    own = read_types(btf.finish(), "<")
    file = SymbolFile(own, char_is_signed=True)
    more = Writer(names=len(btf.strings))
    more.add_struct("fine", 4, [("number", 1, 0)])
    more.add_struct("torn", 4, [("x" * 513, 1, 0)])
    with pytest.raises(FormatError, match="is longer than 512"):
        file.add_module(ModuleTypes("ext4", read_types(more.finish(), "<", own), len(own)))
    assert json.loads(file.finish(make_table(SYMBOLS), {}, BANNER))["user_types"] == {}


def test_a_pointer_to_itself_is_refused() -> None:
    btf = with_int()
    btf.add(PTR, "", 2)
    with pytest.raises(FormatError, match="BTF: type 2 leads through 16 others"):
        read(btf)


def test_16_pointers_are_followed_and_17_refused() -> None:
    btf = with_int()
    for target in range(1, 17):
        btf.add(PTR, "", target)
    btf.add_struct("box", 8, [("deep", 17, 0)])
    described = read(btf)["user_types"]["box"]["fields"]["deep"]["type"]
    assert json.dumps(described).count("pointer") == 16
    btf.add(PTR, "", 17)
    with pytest.raises(FormatError, match="leads through 16 others"):
        read(btf)


def test_a_name_that_no_kernel_has_is_refused() -> None:
    btf = with_int()
    btf.add_struct("x" * 512, 0, [])
    assert "x" * 512 in read(btf)["user_types"]
    btf.add_struct("x" * 513, 0, [])
    with pytest.raises(FormatError, match="is longer than 512"):
        read(btf)


def test_a_text_that_no_kernel_needs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    btf = with_int()
    for number in range(40):
        btf.add_struct(f"box{number}", 4, [("number", 1, 0)])
    assert len(read(btf)["user_types"]) == 40
    monkeypatch.setattr(isf, "_MAX_TEXT", 2000)
    with pytest.raises(FormatError, match="more than 2000 bytes"):
        read(btf)
