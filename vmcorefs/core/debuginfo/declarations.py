"""Types for the variables that BTF does not describe: those of ``variables.VARIABLES``, in BTF."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.debuginfo.variables import VARIABLES
from vmcorefs.core.structures.types.btf_table import Kind, TypeTable

_DECLARATION: Final = re.compile(
    r"(?:(struct|union|enum) )?([\w ]+?|\{[\w ]+\})(\**)((?:\[(?:enum )?\w*\])*)"
)
_TAGGED: Final = {
    "struct": (Kind.STRUCT,),
    "union": (Kind.UNION,),
    "enum": (Kind.ENUM, Kind.ENUM64),
    None: (Kind.INT, Kind.TYPEDEF),
}
_CLANG: Final = {"long unsigned int": "unsigned long", "long int": "long"}
_THROUGH: Final = (Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG)
_SIZED: Final = (Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT)
_FITTING: Final = -1
_POINTER_SIZE: Final = 8
_MAX_DEPTH: Final = 32


class _New(msgspec.Struct, frozen=True):
    """A type that is not in BTF: a pointer to another, or an array of ``count`` of them."""

    kind: Kind
    target: int
    count: int = 0


def declare(types: TypeTable, sizes: Mapping[str, int]) -> tuple[TypeTable, dict[str, int]]:
    """Give the variables of ``VARIABLES`` types.

    Args:
        types: The kernel's BTF.
        sizes: Of each symbol, bytes that it has, at most those up to the next one.

    Returns:
        The types, with those pointers and arrays that are new, and each variable's row among them.
    """
    added: list[_New] = []
    declared: dict[str, int] = {}
    for name, declarations in VARIABLES.items():
        if name in sizes:
            choices = (declarations,) if isinstance(declarations, str) else declarations
            rows = (_resolve(types, choice, name, sizes, added) for choice in choices)
            found = next((row for row in rows if row is not None), None)
            if found is not None:
                declared[name] = found
    return _extend(types, added), declared


def parse(declaration: str) -> tuple[str | None, str, str, list[str]]:
    """Take a C type apart: ``struct`` or the like, name, asterisks, numbers of elements.

    Raises:
        ValueError: if it is none of those that ``VARIABLES`` may have.
    """
    match = _DECLARATION.fullmatch(declaration)
    if match is None:
        raise ValueError(f"{declaration!r} is no declaration")
    return match[1], match[2], match[3], re.findall(r"\[(.*?)\]", match[4])


def _resolve(
    types: TypeTable, declaration: str, variable: str, sizes: Mapping[str, int], added: list[_New]
) -> int | None:
    """The row of a C type of at most the bytes that a variable has, or None."""
    size = sizes[variable]
    tag, name, stars, bounds = parse(declaration)
    row = 0 if name == "void" else _find(types, tag, name)
    if row is None:
        return None
    width = _POINTER_SIZE if stars else _size_of(types, row)
    counts = [_count(types, bound, sizes) for bound in bounds]
    known = width * math.prod(max(count, 1) for count in counts)
    if 0 in counts or known > size or (_FITTING in counts and not known):
        return None
    for _ in stars:
        row = _add(types, added, _New(Kind.PTR, row))
    for count in reversed(counts):
        row = _add(
            types, added, _New(Kind.ARRAY, row, size // known if count == _FITTING else count)
        )
    return row


def _find(types: TypeTable, tag: str | None, name: str) -> int | None:
    if name.startswith("{"):
        return _find_unnamed(types, _TAGGED[tag], name[1:-1].split())
    row = types.find(name, *_TAGGED[tag])
    return types.find(_CLANG[name], Kind.INT) if row is None and name in _CLANG else row


def _count(types: TypeTable, bound: str, sizes: Mapping[str, int]) -> int:
    """The number of elements that a bound means: ``_FITTING``, or 0 if it is not known."""
    if bound.isdecimal() or not bound:
        return int(bound or _FITTING)
    if bound.startswith("enum "):
        row = _find(types, *bound.split())
        return 0 if row is None else int(types.count[row])
    if bound in VARIABLES:
        return sizes.get(bound, 0) // _POINTER_SIZE
    return _enumerator(types, bound)


def _enumerator(types: TypeTable, name: str) -> int:
    at = types.strings.find(b"\0" + name.encode() + b"\0") + 1
    words = types.elements(types.of_kind(Kind.ENUM)).words
    values = words[(words[:, 0] == at) & (at > 0), 1]
    return int(values[0]) if len(values) else 0


def _find_unnamed(types: TypeTable, kinds: tuple[Kind, ...], members: list[str]) -> int | None:
    """The first type without a name that has these members first."""
    rows = types.of_kind(*kinds)
    rows = rows[(types.name[rows] == 0) & (types.count[rows] >= len(members))]
    for number, member in enumerate(members):
        names = types.words[types.place[rows] + 3 * number]
        rows = rows[[types.text(int(name)) == member for name in names]]
    return int(rows[0]) if len(rows) else None


def _size_of(types: TypeTable, row: int) -> int:
    """In bytes; 0 if it has none, or is within so many others that it is none."""
    count = 1
    for _ in range(_MAX_DEPTH):
        kind = types.kind[row]
        if kind == Kind.ARRAY:
            place = int(types.place[row])
            count *= int(types.words[place + 2])
            row = int(types.words[place])
        elif kind in _THROUGH:
            row = int(types.target[row])
        else:
            break
    if types.kind[row] == Kind.PTR:
        return count * _POINTER_SIZE
    return count * int(types.target[row]) if types.kind[row] in _SIZED else 0


def _add(types: TypeTable, added: list[_New], new: _New) -> int:
    if new not in added:
        added.append(new)
    return len(types) + added.index(new)


def _extend(types: TypeTable, added: list[_New]) -> TypeTable:
    index = types.of_kind(Kind.INT)[:1].tolist() or [0]  # nobody reads it
    words = [word for new in added for word in (new.target, *index, new.count)]
    none = np.zeros(len(added), dtype=np.int64)
    return replace(
        types,
        kind=np.append(types.kind, np.array([new.kind for new in added], dtype=np.uint8)),
        name=np.append(types.name, none),
        count=np.append(types.count, none),
        flag=np.append(types.flag, none > 0),
        target=np.append(types.target, [new.target for new in added]).astype(np.int64),
        place=np.append(types.place, len(types.words) + 3 * np.arange(len(added))),
        words=np.append(types.words, words).astype(np.int64),
    )
