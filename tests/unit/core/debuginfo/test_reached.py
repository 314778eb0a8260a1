"""Which of the kernel's types a module needs, of BTF written by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.builders.btf import (
    ARRAY,
    CONST,
    DECL_TAG,
    FUNC,
    FUNC_PROTO,
    INT,
    PTR,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    Writer,
)
from vmcorefs.core.debuginfo.reached import keep_reached, prepare
from vmcorefs.core.structures.types.btf_table import Kind, TypeTable, read_types

# the kernel's
LONG, INNER, OUTER, TO_OUTER, UNNAMED, TO_UNNAMED, CHOICE, TWIN, OTHER_TWIN = range(1, 10)
OUTER_T, CONST_OUTER, ARRAY_OF_OUTER, FIRST = 10, 11, 12, 13


def kernel() -> Writer:
    btf = Writer()
    btf.add(INT, "long", 8, [64])
    btf.add_struct("inner", 8, [("value", LONG, 0)])
    btf.add_struct("outer", 24, [("inner", INNER, 0), ("next", TO_OUTER, 64)])
    btf.add(PTR, "", OUTER)
    btf.add_struct("", 8, [("hidden", LONG, 0)])
    btf.add(PTR, "", UNNAMED)
    btf.add_struct("choice", 8, [("one", LONG, 0)], kind=UNION)
    shared = btf.name("twin")
    for member in ("left", "right"):
        words = (btf.name(member), LONG, 0)
        btf.add(Kind.STRUCT, "", 8, words, vlen=1)
        btf.types = btf.types[:-24] + shared.to_bytes(4, "little") + btf.types[-20:]
    btf.add(TYPEDEF, "outer_t", OUTER)
    btf.add(CONST, "", OUTER_T)
    btf.add(ARRAY, "", 0, [OUTER, LONG, 2])
    return btf


def keep(add: Callable[[Writer], None]) -> TypeTable:
    """The types that are left for a module."""
    own = kernel()
    types = read_types(own.finish(), "<")
    split = Writer(names=len(own.strings))
    add(split)
    return keep_reached(prepare(types), read_types(split.finish(), "<", types))


def kept(types: TypeTable) -> dict[int, Kind]:
    """The kernel's types that are left."""
    return {row: Kind(types.kind[row]) for row in range(1, FIRST) if types.kind[row]}


def test_a_member_brings_what_it_is_made_of() -> None:
    types = keep(lambda btf: btf.add_struct("own", 24, [("outer", OUTER, 0)]))

    assert kept(types) == {
        LONG: Kind.INT,
        INNER: Kind.STRUCT,
        OUTER: Kind.STRUCT,
        TO_OUTER: Kind.PTR,
    }
    assert types.kind[FIRST] == Kind.STRUCT


def test_what_is_only_pointed_to_is_declared() -> None:
    def add(btf: Writer) -> None:
        btf.add_struct("own", 16, [("outer", TO_OUTER, 0), ("choice", FIRST + 1, 64)])
        btf.add(PTR, "", CHOICE)

    types = keep(add)

    assert kept(types) == {OUTER: Kind.FWD, TO_OUTER: Kind.PTR, CHOICE: Kind.FWD}
    assert types.flag[[OUTER, CHOICE]].tolist() == [False, True]  # the flag tells a union


@pytest.mark.parametrize(
    ("target", "rows"), [(OUTER_T, [OUTER, OUTER_T]), (CONST_OUTER, [OUTER, OUTER_T, CONST_OUTER])]
)
def test_through_typedefs_and_qualifiers(target: int, rows: list[int]) -> None:
    types = keep(lambda btf: btf.add(PTR, "", target))

    assert sorted(kept(types)) == rows
    assert types.kind[OUTER] == Kind.FWD


def test_own_qualifiers_need_no_more_than_who_uses_them() -> None:
    def pointed_to(btf: Writer) -> None:
        btf.add(CONST, "", OUTER)
        btf.add(TYPE_TAG, "rcu", FIRST)
        btf.add(PTR, "", FIRST + 1)

    def held(btf: Writer) -> None:
        pointed_to(btf)
        btf.add_struct("own", 24, [("outer", FIRST, 0)])

    assert keep(pointed_to).kind[OUTER] == Kind.FWD
    assert keep(held).kind[OUTER] == Kind.STRUCT


def test_an_array_has_the_size_of_its_elements() -> None:
    types = keep(lambda btf: btf.add(PTR, "", ARRAY_OF_OUTER))

    assert types.kind[OUTER] == Kind.STRUCT


def test_what_a_name_does_not_tell_is_kept_whole() -> None:
    assert keep(lambda btf: btf.add(PTR, "", UNNAMED)).kind[UNNAMED] == Kind.STRUCT
    assert keep(lambda btf: btf.add(PTR, "", TWIN)).kind[TWIN] == Kind.STRUCT


def test_a_structure_of_the_modules_own_has_that_name_too() -> None:
    own = kernel()
    types = read_types(own.finish(), "<")
    split = Writer(names=len(own.strings))
    split.add(PTR, "", OUTER)
    split.add(Kind.STRUCT, "", 4)
    name = int(types.name[OUTER])  # a module's names are looked up among the kernel's
    split.types = split.types[:-12] + name.to_bytes(4, "little") + split.types[-8:]

    left = keep_reached(prepare(types), read_types(split.finish(), "<", types))

    assert left.kind[OUTER] == Kind.STRUCT


def test_functions_bring_their_parameters() -> None:
    def add(btf: Writer) -> None:
        btf.add_list(FUNC_PROTO, "", LONG, [("outer", TO_OUTER), ("inner", INNER)])
        btf.add(FUNC, "run", FIRST)

    assert kept(keep(add)) == {
        LONG: Kind.INT,
        OUTER: Kind.FWD,
        TO_OUTER: Kind.PTR,
        INNER: Kind.FWD,
    }


def test_tags_of_declarations_bring_nothing() -> None:
    assert kept(keep(lambda btf: btf.add(DECL_TAG, "bpf_kfunc", OUTER, [0]))) == {}
