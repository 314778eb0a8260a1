"""Structures in BTF, against BTF written by hand."""

from __future__ import annotations

import struct

import pytest

from tests.builders.btf import ARRAY, ENUM, INT, UNION, Writer
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.types.btf import check_btf, read_structs
from vmcorefs.errors import FormatError

BTF = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 4) + b"typestypes..strs"


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_offsets_of_members(byte_order: ByteOrder) -> None:
    btf = Writer(byte_order)
    btf.add(INT, "int", 4, [0])
    btf.add(ARRAY, "", 0, [1, 1, 8])
    btf.add(ENUM, "state", 4, [0, 0, 0, 1], vlen=2)
    btf.add_struct("other", 4, [("name", 1, 0)])
    btf.add_struct("module", 24, [("state", 3, 0), ("name", 2, 64), ("flags", 1, 160)])

    found = read_structs(btf.finish(), byte_order, ["module"])

    assert list(found) == ["module"]
    assert found["module"].size == 24
    assert found["module"].offsets == {"state": 0, "name": 8, "flags": 20}


def test_members_of_anonymous_structures_and_unions() -> None:
    btf = Writer()
    btf.add_struct("outer", 40, [("first", 4, 0), ("", 2, 64), ("named", 3, 256)])
    btf.add_struct("", 16, [("left", 4, 0), ("right", 4, 0), ("", 3, 64)], kind=UNION)
    btf.add_struct("", 8, [("inner", 4, 32)])
    btf.add(INT, "int", 4, [0])

    offsets = read_structs(btf.finish(), "<", ["outer"])["outer"].offsets

    assert offsets == {"first": 0, "left": 8, "right": 8, "inner": 20, "named": 32}


def test_bit_fields() -> None:
    btf = Writer()
    btf.add_struct("s", 8, [("a", 1, 3 << 24 | 0), ("b", 1, 5 << 24 | 3), ("c", 1, 32)], flag=1)

    assert read_structs(btf.finish(), "<", ["s"])["s"].offsets == {"a": 0, "c": 4}


def test_what_is_not_there() -> None:
    btf = Writer()
    btf.add_struct("module", 8, [("list", 1, 0)])
    found = read_structs(btf.finish(), "<", ["module"])

    with pytest.raises(FormatError, match="no struct list_head, mod_kallsyms"):
        read_structs(btf.finish(), "<", ["module", "mod_kallsyms", "list_head"])
    with pytest.raises(FormatError, match="struct module has no name"):
        found["module"].offset("name")


def test_structures_within_one_another_end() -> None:
    btf = Writer()
    btf.add_struct("module", 8, [("", 2, 0)] * 100)
    btf.add_struct("", 8, [("", 1, 0)] * 100)

    with pytest.raises(FormatError, match="too many members"):
        read_structs(btf.finish(), "<", ["module"])


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [(0, 12, "is of kind 0"), (31, 12, "is of kind 31"), (INT, 12, "ends past")],
)
def test_types_are_checked(kind: int, size: int, message: str) -> None:
    btf = Writer()
    btf.add(kind, "x", 4)
    data = bytearray(btf.finish())
    data[12:16] = struct.pack("<I", size)

    with pytest.raises(FormatError, match=message):
        read_structs(bytes(data), "<", ["x"])


def test_btf_is_cut_where_it_ends() -> None:
    assert check_btf(BTF + bytes(100), "<") == BTF


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BTF[:23], "23 bytes, expected 24 to"),
        (b"\xeb\x9f" + BTF[2:], "magic 0x9feb"),
        (BTF[:2] + b"\x02" + BTF[3:], "version 2"),
        (BTF[:-1], "40 in all, but there are 39"),
        (BTF[:4] + bytes(4) + BTF[8:], "header of 0 bytes"),
    ],
)
def test_btf_is_checked(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        check_btf(data, "<")
