"""Types of variables that BTF does not describe, found in BTF that is written by hand."""

from __future__ import annotations

import pytest

from tests.builders.btf import ARRAY, ENUM, INT, TYPEDEF, Writer
from vmcorefs.core.debuginfo import declarations
from vmcorefs.core.debuginfo.declarations import declare, parse
from vmcorefs.core.debuginfo.variables import VARIABLES
from vmcorefs.core.structures.types.btf_table import Kind, TypeTable, read_types


def types() -> TypeTable:
    btf = Writer()
    btf.add(INT, "long unsigned int", 8, [64])  # 1
    btf.add_struct("list_head", 16, [("next", 1, 0), ("prev", 1, 64)])
    btf.add_struct("", 16, [("next", 1, 0)])  # 3
    btf.add_struct("", 24, [("seq", 1, 0), ("timekeeper", 2, 64)])  # 4
    btf.add_list(ENUM, "maple_type", 4, [("maple_dense", 0), ("maple_leaf_64", 1)])
    btf.add_list(ENUM, "", 4, [("HI_SOFTIRQ", 0), ("NR_SOFTIRQS", 10)])
    btf.add(INT, "unsigned char", 1, [8])  # 7
    btf.add(ARRAY, "", 0, [2, 1, 3])  # 8
    btf.add(TYPEDEF, "three", 8)  # 9
    return read_types(btf.finish(), "<")


def declared(
    monkeypatch: pytest.MonkeyPatch, declaration: str | tuple[str, ...], size: int
) -> list[object]:
    """What a variable is, from the outside to the inside; nothing if it is left out."""
    monkeypatch.setattr(declarations, "VARIABLES", {"here": declaration, "elsewhere": "int"})
    table, found = declare(types(), {"here": size, "elsewhere": 24})
    row, told = found.get("here"), list[object]()
    while row is not None:
        kind = Kind(int(table.kind[row]))
        if kind == Kind.ARRAY:
            told.append(int(table.words[table.place[row] + 2]))
            row = int(table.words[table.place[row]])
        elif kind == Kind.PTR:
            told.append("*")
            row = int(table.target[row])
        else:
            told.append(table.text(int(table.name[row])) or int(table.target[row]))
            break
    return told


@pytest.mark.parametrize(
    ("declaration", "size", "told"),
    [
        ("struct list_head", 16, ["list_head"]),
        ("struct list_head*", 8, ["*", "list_head"]),
        ("void**", 8, ["*", "*", 0]),
        ("long unsigned int[3]", 32, [3, "long unsigned int"]),
        ("struct list_head[]", 40, [2, "list_head"]),
        ("struct list_head*[]", 40, [5, "*", "list_head"]),
        ("long unsigned int[65][]", 65 * 16 + 24, [65, 2, "long unsigned int"]),
        ("struct list_head[NR_SOFTIRQS]", 192, [10, "list_head"]),
        ("unsigned char[enum maple_type]", 32, [2, "unsigned char"]),
        ("unsigned char[elsewhere]", 8, [3, "unsigned char"]),
        ("struct {seq timekeeper}", 64, [24]),
        ("three", 48, ["three"]),
        (("struct tk_data", "struct {seq timekeeper}"), 24, [24]),
        (("void*[8192]", "void**"), 8 * 8192, [8192, "*", 0]),
        (("void*[8192]", "void**"), 8, ["*", "*", 0]),
    ],
)
def test_a_declaration(
    declaration: str | tuple[str, ...],
    size: int,
    told: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert declared(monkeypatch, declaration, size) == told


@pytest.mark.parametrize(
    ("declaration", "size"),
    [
        ("struct list_head", 15),
        ("three", 47),
        ("long unsigned int[3]", 23),
        ("struct list_head[NR_OF_NOTHING]", 4096),
        ("unsigned char[enum nothing]", 4096),
        ("unsigned char[elsewhere]", 2),
        ("struct {seq tk}", 64),
        ("struct absent", 64),
        ("struct absent*", 8),
        ("void[]", 64),
    ],
)
def test_a_variable_that_is_left_out(
    declaration: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert declared(monkeypatch, declaration, size) == []


def test_clang_has_other_names_for_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    btf = Writer()
    btf.add(INT, "unsigned long", 8, [64])
    monkeypatch.setattr(declarations, "VARIABLES", {"max_pfn": "long unsigned int"})

    assert declare(read_types(btf.finish(), "<"), {"max_pfn": 8})[1] == {"max_pfn": 1}


@pytest.mark.parametrize("name", VARIABLES)
def test_every_declaration_can_be_parsed(name: str) -> None:
    said = VARIABLES[name]

    for declaration in (said,) if isinstance(said, str) else said:
        _, base, stars, _ = parse(declaration)
        assert base
        assert set(stars) <= {"*"}


def test_what_is_no_declaration() -> None:
    with pytest.raises(ValueError, match="no declaration"):
        parse("struct list_head[")
