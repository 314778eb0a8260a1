"""The kernel's BTF as DWARF, which debuggers read: types, functions, static variables.

What BTF does not have is not made up: no lines of source, no local variables, no places of
parameters. Formats: include/uapi/linux/btf.h; DWARF 4, which all readers of kernels take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.debuginfo.dies import At, Attribute, DieStream, Entries, Form, Tag, pack_lines
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.types.btf_table import Kind, Rows, TypeTable

_Place = TypeVar("_Place")

_C99: Final = 0x0C  # DW_LANG_C99
_BOOLEAN, _FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED, _UNSIGNED_CHAR = 2, 4, 5, 6, 7, 8  # DW_ATE_*
_INT_SIGNED, _INT_BOOL = 1, 4  # BTF_INT_*

_MODIFIERS: Final = {
    Kind.CONST: Tag.CONST_TYPE,
    Kind.VOLATILE: Tag.VOLATILE_TYPE,
    Kind.RESTRICT: Tag.RESTRICT_TYPE,
}
_LISTS: Final = {
    Kind.STRUCT: Tag.STRUCTURE_TYPE,
    Kind.UNION: Tag.UNION_TYPE,
    Kind.ENUM: Tag.ENUMERATION_TYPE,
    Kind.ENUM64: Tag.ENUMERATION_TYPE,
}
_ONE_ENTRY: Final = (
    *(Kind.INT, Kind.FLOAT, Kind.PTR, Kind.FWD, Kind.TYPEDEF),
    *_MODIFIERS,
)


class Places(msgspec.Struct, frozen=True):
    """Where functions and variables are, by name.

    Attributes:
        functions: Address and size in bytes; those whose name is not unique are left out.
        variables: Address, or offset in the per-CPU area.
        constants: Values of ``int`` variables that the compiler has left no place for.
        code: Where code begins, and how many bytes it is.
        unit: The name of the file that the code is of.
        sources: Names of source files, for readers that look a variable up by one.
    """

    functions: Mapping[str, tuple[int, int]]
    variables: Mapping[str, int]
    constants: Mapping[str, int]
    code: tuple[int, int]
    unit: str = "vmlinux"
    sources: tuple[str, ...] = ()


class Dwarf(msgspec.Struct, frozen=True, eq=False):
    """The contents of ``.debug_info``, ``.debug_abbrev``, ``.debug_str`` and ``.debug_line``."""

    entries: Entries
    abbrev: bytes
    strings: bytes
    lines: bytes


def make_dwarf(
    types: TypeTable,
    places: Places,
    declared: Mapping[str, int],
    *,
    byte_order: ByteOrder,
    char_is_signed: bool,
) -> Dwarf:
    """Describe all types, and the functions and variables whose places are known.

    Args:
        types: The kernel's BTF.
        places: Where its functions and variables are.
        declared: The types, by row, of variables that BTF does not describe.
        byte_order: The kernel's.
        char_is_signed: Whether ``char`` is; BTF does not say.
    """
    return _Writer(types, places, declared, char_is_signed=char_is_signed).write(byte_order)


class _Writer:
    """Makes the entries of one kernel's types.

    Attributes:
        types: BTF.
        meant: For each row, the row that a reference to it means.
        function_of: For each row, the address and size of the function, or 0.
        place: For each row, where its entry stands in the order of all; 0 is the unit.
    """

    def __init__(
        self,
        types: TypeTable,
        places: Places,
        declared: Mapping[str, int],
        *,
        char_is_signed: bool,
    ) -> None:
        self.types = types
        self.meant = types.referred(Kind.TYPE_TAG)
        self._char_is_signed = char_is_signed
        self._strings = bytearray(types.strings)
        self._code, self._unit, self._sources = places.code, places.unit, places.sources
        self._functions = self._find(Kind.FUNC, places.functions)
        self._variables = self._find(Kind.VAR, places.variables)
        described = {types.text(int(types.name[row])) for row in self._variables}
        self._declared = [
            (self._string(name), row, places.variables[name])
            for name, row in declared.items()
            if name not in described and name in places.variables
        ]
        self._constants = dict(places.constants) if types.find("int", Kind.INT) else {}
        counts = self._count()
        self.place = 1 + np.cumsum(counts) - counts
        self._end = 1 + int(counts.sum())
        self._stream = DieStream(self._end + len(self._declared) + len(self._constants) + 1)

    def _find(self, kind: Kind, places: Mapping[str, _Place]) -> dict[int, _Place]:
        rows = self.types.of_kind(kind)
        names = self.types.name[rows]
        found = {}
        for row, name in zip(rows.tolist(), names.tolist(), strict=True):
            place = places.get(self.types.text(name))
            if place is not None:
                found[row] = place
        return found

    def _string(self, text: str) -> int:
        at = len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def _count(self) -> Rows:
        """Entries for each row: itself, what is in its list, and the end of that."""
        types = self.types
        counts = np.zeros(len(types), dtype=np.int64)
        counts[types.of_kind(*_ONE_ENTRY)] = 1
        counts[types.of_kind(Kind.ARRAY)] = 3
        listed = types.of_kind(*_LISTS, Kind.FUNC_PROTO)
        counts[listed] = 2 + types.count[listed]
        functions = _as_rows(self._functions)
        counts[functions] = 2 + types.count[types.target[functions]]
        counts[_as_rows(self._variables)] = 1
        return counts

    def write(self, byte_order: ByteOrder) -> Dwarf:
        self._add_unit()
        self._add_base_types()
        self._add_references()
        self._add_arrays()
        self._add_aggregates()
        self._add_enumerations()
        self._add_prototypes()
        self._add_functions()
        self._add_variables()
        self._add_constants()
        strings = self._stream.pack_strings(bytes(self._strings))
        entries = self._stream.pack(byte_order, self.place)
        lines = pack_lines(self._sources, byte_order)
        return Dwarf(entries, self._stream.pack_abbreviations(), strings, lines)

    def _name(self, rows: Rows) -> Attribute:
        return Attribute(At.NAME, Form.STRP, self.types.name[rows], optional=True)

    def _type(self, targets: Rows) -> Attribute:
        """A reference to types; void is none."""
        return Attribute(At.TYPE, Form.REF4, self.meant[targets], optional=True)

    def _size(self, rows: Rows) -> Attribute:
        return Attribute(At.BYTE_SIZE, Form.DATA4, self.types.target[rows])

    def _add_unit(self) -> None:
        start, size = self._code
        attributes = [
            Attribute(At.PRODUCER, Form.STRP, self._string("vmcorefs, from the kernel's BTF")),
            Attribute(At.LANGUAGE, Form.DATA1, _C99),
            Attribute(At.NAME, Form.STRP, self._string(self._unit)),
            Attribute(At.LOW_PC, Form.ADDR, np.array([start], dtype=np.uint64)),
            Attribute(At.HIGH_PC, Form.DATA8, size),
            Attribute(At.STMT_LIST, Form.SEC_OFFSET, 0),
        ]
        self._stream.add(Tag.COMPILE_UNIT, np.zeros(1, dtype=np.int64), attributes, children=True)

    def _add_base_types(self) -> None:
        types = self.types
        rows = types.of_kind(Kind.INT, Kind.FLOAT)
        data = types.words[np.where(types.kind[rows] == Kind.INT, types.place[rows], 0)]
        bits = data >> 24 & 0xF
        char = types.strings.find(b"\0char\0") + 1
        is_signed = bits & _INT_SIGNED > 0
        if self._char_is_signed:
            is_signed |= (types.name[rows] == char) & (char > 0)
        encoding = np.where(is_signed, _SIGNED, _UNSIGNED)
        small = types.target[rows] == 1
        encoding[small] = np.where(is_signed[small], _SIGNED_CHAR, _UNSIGNED_CHAR)
        encoding[bits & _INT_BOOL > 0] = _BOOLEAN
        encoding[types.kind[rows] == Kind.FLOAT] = _FLOAT
        attributes = [
            self._name(rows),
            self._size(rows),
            Attribute(At.ENCODING, Form.DATA1, encoding),
        ]
        self._stream.add(Tag.BASE_TYPE, self.place[rows], attributes)

    def _add_references(self) -> None:
        """Pointers, typedefs, qualifiers, and what is only declared."""
        types, stream = self.types, self._stream
        rows = types.of_kind(Kind.PTR)
        size = Attribute(At.BYTE_SIZE, Form.DATA1, 8)
        stream.add(Tag.POINTER_TYPE, self.place[rows], [size, self._type(types.target[rows])])
        rows = types.of_kind(Kind.TYPEDEF)
        stream.add(
            Tag.TYPEDEF, self.place[rows], [self._name(rows), self._type(types.target[rows])]
        )
        for kind, tag in _MODIFIERS.items():
            rows = types.of_kind(kind)
            stream.add(tag, self.place[rows], [self._type(types.target[rows])])
        rows = types.of_kind(Kind.FWD)
        for flag, tag in ((False, Tag.STRUCTURE_TYPE), (True, Tag.UNION_TYPE)):
            some = rows[types.flag[rows] == flag]
            declaration = Attribute(At.DECLARATION, Form.FLAG_PRESENT)
            stream.add(tag, self.place[some], [self._name(some), declaration])

    def _add_arrays(self) -> None:
        types, stream = self.types, self._stream
        rows = types.of_kind(Kind.ARRAY)
        at = types.place[rows]
        element = self._type(types.words[at])
        stream.add(Tag.ARRAY_TYPE, self.place[rows], [element], children=True)
        # of no elements: the last member of a structure that goes on beyond its end
        count = Attribute(At.COUNT, Form.DATA4, types.words[at + 2], optional=True)
        stream.add(Tag.SUBRANGE_TYPE, self.place[rows] + 1, [count])

    def _add_aggregates(self) -> None:
        types, stream = self.types, self._stream
        for kind in (Kind.STRUCT, Kind.UNION):
            rows = types.of_kind(kind)
            attributes = [self._name(rows), self._size(rows)]
            stream.add(_LISTS[kind], self.place[rows], attributes, children=True)
            members = types.elements(rows)
            bits, offset = types.bit_fields(rows[members.owner], members.words)
            places = self.place[rows[members.owner]] + 1 + members.number
            name = Attribute(At.NAME, Form.STRP, members.words[:, 0], optional=True)
            plain = [
                name,
                self._type(members.words[:, 1]),
                Attribute(At.DATA_MEMBER_LOCATION, Form.DATA4, offset // 8),
            ]
            packed = [
                *plain[:2],
                Attribute(At.BIT_SIZE, Form.DATA1, bits),
                Attribute(At.DATA_BIT_OFFSET, Form.DATA4, offset),
            ]
            _add_where(stream, bits == 0, Tag.MEMBER, places, plain)
            _add_where(stream, bits > 0, Tag.MEMBER, places, packed)

    def _add_enumerations(self) -> None:
        types, stream = self.types, self._stream
        for kind in (Kind.ENUM, Kind.ENUM64):
            rows = types.of_kind(kind)
            attributes = [self._name(rows), self._size(rows)]
            stream.add(_LISTS[kind], self.place[rows], attributes, children=True)
            found = types.elements(rows)
            value = types.enumerator_values(rows, found)
            attributes = [
                Attribute(At.NAME, Form.STRP, found.words[:, 0]),
                Attribute(At.CONST_VALUE, Form.DATA8, value.view(np.uint64)),
            ]
            places = self.place[rows[found.owner]] + 1 + found.number
            stream.add(Tag.ENUMERATOR, places, attributes)

    def _add_prototypes(self) -> None:
        rows = self.types.of_kind(Kind.FUNC_PROTO)
        prototyped = Attribute(At.PROTOTYPED, Form.FLAG_PRESENT)
        attributes = [prototyped, self._type(self.types.target[rows])]
        self._stream.add(Tag.SUBROUTINE_TYPE, self.place[rows], attributes, children=True)
        self._add_parameters(rows, self.place[rows], named=False)

    def _add_functions(self) -> None:
        rows = _as_rows(self._functions)
        prototypes = self.types.target[rows]
        spans = np.array(list(self._functions.values()), dtype=np.uint64).reshape(-1, 2)
        attributes = [
            self._name(rows),
            Attribute(At.PROTOTYPED, Form.FLAG_PRESENT),
            self._type(self.types.target[prototypes]),
            Attribute(At.LOW_PC, Form.ADDR, spans[:, 0]),
            Attribute(At.HIGH_PC, Form.DATA8, spans[:, 1]),
        ]
        self._stream.add(Tag.SUBPROGRAM, self.place[rows], attributes, children=True)
        self._add_parameters(prototypes, self.place[rows], named=True)

    def _add_parameters(self, prototypes: Rows, parents: Rows, *, named: bool) -> None:
        found = self.types.elements(prototypes)
        places = parents[found.owner] + 1 + found.number
        names, targets = found.words[:, 0], found.words[:, 1]
        rest = targets == 0  # "..."
        name = Attribute(At.NAME, Form.STRP, names if named else 0 * names, optional=True)
        attributes = [name, self._type(targets)]
        _add_where(self._stream, ~rest, Tag.FORMAL_PARAMETER, places, attributes)
        self._stream.add(Tag.UNSPECIFIED_PARAMETERS, places[rest], [])

    def _add_variables(self) -> None:
        types, declared = self.types, self._declared
        rows = _as_rows(self._variables)
        names = _as_rows(name for name, _, _ in declared)
        targets = _as_rows(row for _, row, _ in declared)
        addresses = [*self._variables.values(), *(address for _, _, address in declared)]
        attributes = [
            Attribute(At.NAME, Form.STRP, np.append(types.name[rows], names)),
            self._type(np.append(types.target[rows], targets)),
            Attribute(At.EXTERNAL, Form.FLAG_PRESENT),
            Attribute(At.LOCATION, Form.EXPRLOC, np.array(addresses, dtype=np.uint64)),
        ]
        places = np.append(self.place[rows], self._end + np.arange(len(declared)))
        self._stream.add(Tag.VARIABLE, places, attributes)

    def _add_constants(self) -> None:
        constants = self._constants
        integer = self.types.find("int", Kind.INT) or 0
        attributes = [
            Attribute(At.NAME, Form.STRP, _as_rows(map(self._string, constants))),
            self._type(np.full(len(constants), integer)),
            Attribute(At.CONST_VALUE, Form.DATA4, _as_rows(constants.values())),
        ]
        places = self._end + len(self._declared) + np.arange(len(constants))
        self._stream.add(Tag.VARIABLE, places, attributes)


def _as_rows(values: Iterable[int]) -> Rows:
    return np.fromiter(values, dtype=np.int64)


def _add_where(
    stream: DieStream,
    chosen: npt.NDArray[np.bool_],
    tag: Tag,
    places: Rows,
    attributes: list[Attribute],
) -> None:
    """Add those entries that are chosen."""
    some = [
        Attribute(a.at, a.form, np.asarray(a.values)[chosen], optional=a.optional)
        for a in attributes
    ]
    stream.add(tag, places[chosen], some)
