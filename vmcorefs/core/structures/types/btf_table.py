"""All types of a kernel's BTF at once, as columns: for what is made of every one of them.

Format: include/uapi/linux/btf.h, Documentation/bpf/btf.rst. What a consumer would follow without
end is refused here, as kernel/bpf/btf.c refuses it: ids beyond the table, a type that is a part of
itself.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.types.btf import check_btf
from vmcorefs.errors import FormatError

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.int64]


class Kind(IntEnum):
    """``BTF_KIND_*``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_TYPE_WORDS: Final = 3  # of struct btf_type
_KINDS: Final = len(Kind)

# kind -> words after struct btf_type: fixed, and for each of the vlen elements
_FIXED: Final = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_EACH: Final = {
    **dict.fromkeys((Kind.STRUCT, Kind.UNION, Kind.DATASEC, Kind.ENUM64), 3),
    **dict.fromkeys((Kind.ENUM, Kind.FUNC_PROTO), 2),
}
MODIFIERS: Final = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
"""What only stands before another type."""

_REFERRING: Final = (*MODIFIERS, Kind.PTR, Kind.FUNC, Kind.FUNC_PROTO, Kind.VAR, Kind.DECL_TAG)
_NO_TYPES: Final = (Kind.FUNC, Kind.VAR, Kind.DATASEC, Kind.DECL_TAG)

_MAX_DEPTH: Final = 64
"""Types within types that are followed: the kernel itself stops at 32 (MAX_RESOLVE_DEPTH)."""


class Elements(msgspec.Struct, frozen=True, eq=False):
    """The elements of some types' lists: members, enumerators or parameters.

    Attributes:
        owner: int64, for each element, which of the types that were asked for has it.
        number: int64, its place in that type's list, from 0.
        words: int64, shape (n, 2 or 3), the element itself.
    """

    owner: Rows
    number: Rows
    words: Words


class TypeTable(msgspec.Struct, frozen=True, eq=False):
    """BTF in columns, a row for each type; row 0 is void.

    Attributes:
        kind: uint8, ``Kind``.
        name: int64, where its name is in ``strings``; 0 for none.
        count: int64, elements in its list (``vlen``).
        flag: bool, ``kind_flag``.
        target: int64, ``size`` or ``type``, as the kind has it.
        place: int64, the word behind its ``struct btf_type``.
        words: int64, all words of the types.
        strings: The names, each ended by a NUL.
    """

    kind: npt.NDArray[np.uint8]
    name: Rows
    count: Rows
    flag: npt.NDArray[np.bool_]
    target: Rows
    place: Rows
    words: Words
    strings: bytes

    def __len__(self) -> int:
        return len(self.kind)

    def of_kind(self, *kinds: Kind, first: int = 0) -> Rows:
        """The rows of these kinds from ``first`` on, in order."""
        return first + np.flatnonzero(np.isin(self.kind[first:], kinds))

    def elements(self, rows: Rows) -> Elements:
        """The lists of types that have elements of one size."""
        count = self.count[rows]
        size = _EACH[Kind(int(self.kind[rows[0]]))] if len(rows) else max(_EACH.values())
        owner = np.repeat(np.arange(len(rows)), count)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        at = self.place[rows][owner] + size * number
        return Elements(owner, number, self.words[at[:, None] + np.arange(size)])

    def text(self, name: int) -> str:
        """The name at ``name``."""
        return self.strings[name : self.strings.index(b"\0", name)].decode("ascii", "replace")

    def find(self, name: str, *kinds: Kind) -> int | None:
        """The first type of that name and one of these kinds."""
        text, at = b"\0" + name.encode() + b"\0", -1
        while (at := self.strings.find(text, at + 1)) >= 0:
            rows = np.flatnonzero((self.name == at + 1) & np.isin(self.kind, kinds))
            if len(rows):
                return int(rows[0])
        return None

    def referred(self, *through: Kind) -> Rows:
        """For each type, the row that a reference to it means if these kinds are looked through."""
        result = np.arange(len(self))
        rows = self.of_kind(*through)
        result[rows] = self.target[rows]
        for _ in range(_MAX_DEPTH.bit_length()):  # twice as far each time
            result = result[result]
        return result

    def bit_fields(self, owners: Rows, members: Words) -> tuple[Rows, Rows]:
        """Each member's width in bits if it is a bit-field, or 0, and its offset in bits.

        Args:
            owners: The row of the structure or union that each is of.
            members: Their words, as ``elements`` returns them.
        """
        packed = self.flag[owners]
        bits = np.where(packed, members[:, 2] >> 24, 0)
        offset = np.where(packed, members[:, 2] & 0xFFFFFF, members[:, 2])
        # without kind_flag, its type is an integer of that many bits
        target = self.referred(Kind.TYPE_TAG)[members[:, 1]]
        small = np.flatnonzero(~packed & (self.kind[target] == Kind.INT))
        data = self.words[self.place[target[small]]]
        narrow = data & 0xFF < 8 * self.target[target[small]]
        bits[small[narrow]] = data[narrow] & 0xFF
        offset[small[narrow]] += data[narrow] >> 16 & 0xFF
        return bits, offset

    def enumerator_values(self, rows: Rows, found: Elements) -> Words:
        """The value of each enumerator of some enumerations of one kind, as an int64."""
        value = found.words[:, 1].copy()
        if found.words.shape[1] > len(("name", "value")):
            return value | found.words[:, 2] << 32
        negative = self.flag[rows[found.owner]] & (value >> 31 > 0)
        value[negative] -= 1 << 32
        return value


def read_types(data: bytes, byte_order: ByteOrder, base: TypeTable | None = None) -> TypeTable:
    """Decode all types.

    Args:
        data: BTF.
        byte_order: The kernel's.
        base: The kernel's own types, if ``data`` is the BTF of a module: its ids and names go on
            where the kernel's end (split BTF).

    Returns:
        The types, behind those of ``base``.

    Raises:
        FormatError: if the BTF is damaged, or a type is a part of itself.
    """
    data = check_btf(data, byte_order)
    header, type_at, type_size, string_at, string_size = struct.unpack_from(
        byte_order + "IIIII", data, 4
    )
    words = np.frombuffer(data, f"{byte_order}u4", type_size // 4, header + type_at)
    places = _walk(words.tolist())
    words = words.astype(np.int64)
    info = words[places - 2]
    start = header + string_at
    before = _VOID if base is None else base
    table = TypeTable(
        kind=np.append(before.kind, (info >> 24 & 0x1F).astype(np.uint8)),
        name=np.append(before.name, words[places - 3]),
        count=np.append(before.count, info & 0xFFFF),
        flag=np.append(before.flag, info >> 31 > 0),
        target=np.append(before.target, words[places - 1]),
        place=np.append(before.place, len(before.words) + places),
        words=np.append(before.words, words),
        strings=before.strings[:-1] + data[start : start + string_size] + b"\0",
    )
    _check_references(table, len(before))
    return table


_NOTHING: Final = np.zeros(0, dtype=np.int64)
_ONE_ROW: Final = np.zeros(1, dtype=np.int64)
_VOID: Final = TypeTable(
    kind=_ONE_ROW.astype(np.uint8),
    name=_ONE_ROW,
    count=_ONE_ROW,
    flag=_ONE_ROW > 0,
    target=_ONE_ROW,
    place=_ONE_ROW,
    words=_NOTHING,
    strings=b"",
)


def _walk(words: list[int]) -> Rows:
    """The word behind each type's ``struct btf_type``; its kind decides its length."""
    fixed = [_FIXED.get(Kind(kind), 0) for kind in range(_KINDS)]
    each = [_EACH.get(Kind(kind), 0) for kind in range(_KINDS)]
    places: list[int] = []
    at, end = 0, len(words)
    while at < end:
        if at + _TYPE_WORDS > end:
            raise FormatError(f"BTF: type {len(places) + 1} ends past the types")
        info = words[at + 1]
        kind = info >> 24 & 0x1F
        if not 0 < kind < _KINDS:
            raise FormatError(f"BTF: type {len(places) + 1} is of kind {kind}")
        at += _TYPE_WORDS
        places.append(at)
        at += fixed[kind] + each[kind] * (info & 0xFFFF)
    if at > end:
        raise FormatError(f"BTF: type {len(places)} ends past the types")
    return np.array(places, dtype=np.int64)


def _check_references(table: TypeTable, first: int) -> None:
    """Refuse names and ids beyond the tables, and types without end; rows before are checked."""
    owners, targets = references(table, first)
    lists = (_element_names(table, kind, first) for kind in _EACH)
    names = np.concatenate([table.name[first:], *lists])
    if (names >= len(table.strings)).any():
        raise FormatError("BTF: a name is past the names")
    known = targets < len(table)
    if not known.all():
        row = int(owners[~known][0])
        raise FormatError(f"BTF: type {row} refers to one past the last, {len(table) - 1}")
    wrong = np.isin(table.kind[targets], _NO_TYPES) & (table.kind[owners] != Kind.DECL_TAG)
    wrong &= table.kind[owners] != Kind.DATASEC
    if wrong.any():
        raise FormatError(f"BTF: type {int(owners[wrong][0])} refers to what is no type")
    functions = table.of_kind(Kind.FUNC, first=first)
    odd = functions[table.kind[table.target[functions]] != Kind.FUNC_PROTO]
    if len(odd):
        raise FormatError(f"BTF: type {int(odd[0])} is a function without a prototype")
    _check_depth(table, owners, targets)


def _element_names(table: TypeTable, kind: Kind, first: int) -> Rows:
    if kind == Kind.DATASEC:  # its elements have none
        return _NOTHING
    return table.elements(table.of_kind(kind, first=first)).words[:, 0]


def references(table: TypeTable, first: int = 0) -> tuple[Rows, Rows]:
    """Each reference of one type, from row ``first`` on, to another.

    Returns:
        The row that has it, and the row that it means.
    """
    rows = table.of_kind(*_REFERRING, first=first)
    owners, targets = [rows], [table.target[rows]]
    arrays = table.of_kind(Kind.ARRAY, first=first)
    for word in range(2):  # of what, and by what it is indexed
        owners.append(arrays)
        targets.append(table.words[table.place[arrays] + word])
    for kind, column in (
        (Kind.STRUCT, 1),
        (Kind.UNION, 1),
        (Kind.FUNC_PROTO, 1),
        (Kind.DATASEC, 0),
    ):
        rows = table.of_kind(kind, first=first)
        elements = table.elements(rows)
        owners.append(rows[elements.owner])
        targets.append(elements.words[:, column])
    return np.concatenate(owners), np.concatenate(targets)


def _check_depth(table: TypeTable, owners: Rows, targets: Rows) -> None:
    """Refuse a type that is a part of itself, or of too many others; pointers end a chain."""
    ends = np.isin(table.kind, (Kind.PTR, Kind.FUNC_PROTO, Kind.FUNC, Kind.VAR, Kind.DATASEC))
    inner = ~ends[owners] & (targets > 0)
    owners, targets = owners[inner], targets[inner]
    for _ in range(_MAX_DEPTH):
        if not len(owners):
            return
        has_parts = np.zeros(len(table), dtype=np.bool_)
        has_parts[owners] = True
        open_ends = has_parts[targets]
        if open_ends.all():
            raise FormatError(f"BTF: type {int(owners[0])} is a part of itself")
        owners, targets = owners[open_ends], targets[open_ends]
    raise FormatError(f"BTF: type {int(owners[0])} has more than {_MAX_DEPTH} others within it")
