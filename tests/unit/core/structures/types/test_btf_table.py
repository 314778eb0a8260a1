"""All types of BTF as columns, against BTF written by hand."""

from __future__ import annotations

import pytest

from tests.builders.btf import (
    ARRAY,
    CONST,
    DATASEC,
    FUNC,
    FUNC_PROTO,
    INT,
    PTR,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    VAR,
    Writer,
)
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.types.btf_table import Kind, read_types, references
from vmcorefs.errors import FormatError


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_columns(byte_order: ByteOrder) -> None:
    btf = Writer(byte_order)
    btf.add(INT, "int", 4, [1 << 24 | 32])
    btf.add(ARRAY, "", 0, [1, 1, 8])
    btf.add_struct("pair", 40, [("first", 1, 0), ("rest", 2, 64)])

    types = read_types(btf.finish(), byte_order)

    assert types.kind.tolist() == [Kind.VOID, Kind.INT, Kind.ARRAY, Kind.STRUCT]
    assert [types.text(name) for name in types.name.tolist()] == ["", "int", "", "pair"]
    assert types.target.tolist() == [0, 4, 0, 40]
    members = types.elements(types.of_kind(Kind.STRUCT))
    assert members.owner.tolist() == [0, 0]
    assert members.number.tolist() == [0, 1]
    assert members.words[:, 1:].tolist() == [[1, 0], [2, 64]]
    assert types.find("pair", Kind.STRUCT) == 3
    assert types.find("pair", Kind.UNION) is None
    assert types.find("air", Kind.STRUCT) is None


def test_type_tags_are_looked_through() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    for target in range(1, 9):  # __user __rcu ... of one another
        btf.add(TYPE_TAG, "user", target)
    btf.add(TYPE_TAG, "of_void", 0)
    btf.add(PTR, "", 9)

    meant = read_types(btf.finish(), "<").referred(Kind.TYPE_TAG).tolist()

    assert meant == [0, *[1] * 9, 0, 11]


def test_a_structure_may_point_to_itself() -> None:
    btf = Writer()
    btf.add_struct("list_head", 16, [("next", 2, 0), ("prev", 2, 64)])
    btf.add(PTR, "", 1)

    assert len(read_types(btf.finish(), "<")) == 3


def test_a_type_that_is_a_part_of_itself_is_refused() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    btf.add_struct("outer", 16, [("inner", 3, 0)])
    btf.add(TYPEDEF, "inner_t", 4)
    btf.add(CONST, "", 2)

    with pytest.raises(FormatError, match=r"type [234] is a part of itself"):
        read_types(btf.finish(), "<")


def test_an_array_of_itself_is_refused() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    btf.add(ARRAY, "", 0, [2, 1, 2])

    with pytest.raises(FormatError, match="type 2 is a part of itself"):
        read_types(btf.finish(), "<")


def test_types_within_types_without_end_are_refused() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    for inner in range(1, 100):
        btf.add_struct("box", 4, [("inner", inner, 0)])

    with pytest.raises(FormatError, match="more than 64 others within it"):
        read_types(btf.finish(), "<")


@pytest.mark.parametrize("kind", [PTR, TYPEDEF, FUNC])
def test_an_id_past_the_last_is_refused(kind: int) -> None:
    btf = Writer()
    btf.add(kind, "", 2)

    with pytest.raises(FormatError, match="type 1 refers to one past the last, 1"):
        read_types(btf.finish(), "<")


@pytest.mark.parametrize(
    ("kind", "tail", "count"),
    [
        (STRUCT, [0, 77, 0], 1),
        (FUNC_PROTO, [0, 77], 1),
        (ARRAY, [77, 1, 1], 0),
        (ARRAY, [1, 77, 1], 0),
        (DATASEC, [77, 0, 4], 1),
    ],
)
def test_an_element_past_the_last_is_refused(kind: int, tail: list[int], count: int) -> None:
    btf = Writer()
    btf.add(kind, "", 0, tail, count)

    with pytest.raises(FormatError, match="type 1 refers to one past the last, 1"):
        read_types(btf.finish(), "<")


def test_a_variable_is_no_type() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    btf.add(VAR, "x", 1, [0])
    btf.add(PTR, "", 2)

    with pytest.raises(FormatError, match="type 3 refers to what is no type"):
        read_types(btf.finish(), "<")


def test_a_function_without_a_prototype_is_refused() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    btf.add_struct("s", 4, [("a", 1, 0)])
    btf.add(FUNC, "f", 2)

    with pytest.raises(FormatError, match="type 3 is a function without a prototype"):
        read_types(btf.finish(), "<")


def test_a_name_past_the_names_is_refused() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    data = bytearray(btf.finish())
    data[24:28] = (1000).to_bytes(4, "little")

    with pytest.raises(FormatError, match="a name is past the names"):
        read_types(bytes(data), "<")


def test_a_name_without_an_end_ends_with_the_names() -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [32])
    data = bytearray(btf.finish())
    data[-1:] = b"x"

    types = read_types(bytes(data), "<")

    assert types.text(int(types.name[1])) == "intx"


@pytest.mark.parametrize(("kind", "message"), [(20, "is of kind 20"), (0, "is of kind 0")])
def test_an_unknown_kind_is_refused(kind: int, message: str) -> None:
    btf = Writer()
    btf.add(kind, "x", 4)

    with pytest.raises(FormatError, match=message):
        read_types(btf.finish(), "<")


def test_types_that_are_cut_off_are_refused() -> None:
    btf = Writer()
    btf.add(INT, "int", 4)  # without the word that says how many bits

    with pytest.raises(FormatError, match="type 1 ends past the types"):
        read_types(btf.finish(), "<")


def kernel_types() -> Writer:
    btf = Writer()
    btf.add(INT, "int", 4, [1 << 24 | 32])
    btf.add_struct("pair", 8, [("first", 1, 0), ("second", 1, 32)])
    return btf


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_modules_types_go_on_where_the_kernels_end(byte_order: ByteOrder) -> None:
    btf = Writer(byte_order)
    btf.add(INT, "int", 4, [1 << 24 | 32])
    own = read_types(btf.finish(), byte_order)
    split = Writer(byte_order, names=len(btf.strings))
    split.add_struct("box", 8, [("left", 1, 0), ("right", 3, 32)])
    split.add(TYPEDEF, "number", 1)

    types = read_types(split.finish(), byte_order, own)

    assert [types.text(name) for name in types.name.tolist()] == ["", "int", "box", "number"]
    members = types.elements(types.of_kind(Kind.STRUCT))
    assert [types.text(name) for name in members.words[:, 0].tolist()] == ["left", "right"]
    assert members.words[:, 1].tolist() == [1, 3]
    assert types.find("number", Kind.TYPEDEF) == 3
    owners, targets = references(types, len(own))
    assert sorted(zip(owners.tolist(), targets.tolist(), strict=True)) == [(2, 1), (2, 3), (3, 1)]


@pytest.mark.parametrize(
    ("kind", "target", "message"),
    [
        (TYPEDEF, 4, "type 3 refers to one past the last, 3"),
        (CONST, 3, "type 3 is a part of itself"),
        (FUNC, 2, "type 3 is a function without a prototype"),
    ],
)
def test_a_modules_types_are_checked(kind: int, target: int, message: str) -> None:
    btf = kernel_types()
    own = read_types(btf.finish(), "<")
    split = Writer(names=len(btf.strings))
    split.add(kind, "", target)

    with pytest.raises(FormatError, match=message):
        read_types(split.finish(), "<", own)


def test_a_modules_names_are_checked() -> None:
    btf = kernel_types()
    own = read_types(btf.finish(), "<")
    split = Writer(names=len(btf.strings) + 8)
    split.add(TYPEDEF, "number", 1)

    with pytest.raises(FormatError, match="a name is past the names"):
        read_types(split.finish(), "<", own)
