"""The kernel's BTF and symbols as volatility3 reads them: its Intermediate Symbol Format, JSON.

Format: volatilityfoundation/volatility3:volatility3/schemas/schema-6.2.0.json. Names are as
volatilityfoundation/dwarf2json makes them, which its plugins rely on: typedefs are looked through,
and a structure without a name has that of its typedef.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.types.btf_table import MODIFIERS, Kind, Rows, TypeTable
from vmcorefs.errors import FormatError

_METADATA: Final = {
    "format": "6.2.0",
    # linux.malware.hidden_modules refuses what no dwarf2json since 0.8.0 says that it has made
    "producer": {"name": "dwarf2json", "version": "0.9.0"},
    "linux": {
        "symbols": [{"kind": "symtab", "name": "kallsyms, by vmcorefs"}],
        "types": [{"kind": "dwarf", "name": "BTF, by vmcorefs"}],
    },
}
_VOID: Final = {"kind": "base", "name": "void"}
_CHAR: Final = {"kind": "base", "name": "char"}
_BANNER: Final = "linux_banner"
_POINTER_SIZE: Final = 8
_INT_SIGNED, _INT_BOOL = 1, 4  # BTF_INT_*
_AGGREGATES: Final = {Kind.STRUCT: "struct", Kind.UNION: "union"}
_ENUMERATIONS: Final = (Kind.ENUM, Kind.ENUM64)
_SIZES: Final = (1, 2, 4, 8)  # of an enumeration, in bytes (kernel/bpf/btf.c, btf_enum_check_meta)

_MAX_NESTING: Final = 16
"""Pointers and arrays that stand behind each other; distributions' kernels have up to 5."""

_MAX_NAME: Final = 512  # KSYM_NAME_LEN (include/linux/kallsyms.h)
_MAX_TEXT: Final = 1 << 27
"""Longest text of all of a kind, in bytes: names may overlap. Distributions' kernels have 6 MB."""

_Type = dict[str, Any]


class _Field(msgspec.Struct, frozen=True, omit_defaults=True):
    type: _Type
    offset: int
    anonymous: bool = False


class ModuleTypes(msgspec.Struct, frozen=True, eq=False):
    """What a module has besides the kernel's types.

    Attributes:
        module: Its name.
        table: The kernel's types, and behind them the module's.
        first: The first row of those.
    """

    module: str
    table: TypeTable
    first: int


class _Symbol(msgspec.Struct, frozen=True, omit_defaults=True):
    address: int
    type: _Type
    constant_data: str | None = None


class SymbolFile:
    """The file of a little-endian kernel of 64 bits, as far as it is made.

    Args:
        types: The kernel's BTF.
        char_is_signed: Whether ``char`` is; BTF does not say.

    Raises:
        FormatError: if a type or a name of the BTF is beyond what a kernel has.
    """

    def __init__(self, types: TypeTable, *, char_is_signed: bool) -> None:
        self._own = _Types(types, char_is_signed=char_is_signed)
        self._parts = {name: bytearray() for name in ("base_types", "enums", "user_types")}
        self._add(self._own)

    def add_module(self, types: ModuleTypes) -> None:
        """Describe the types of a module; a name that another type has already gets an ending.

        Raises:
            FormatError: as for the kernel's; nothing of the module has been added then.
        """
        self._add(self._own.followed_by(types))

    def _add(self, types: _Types) -> None:
        sorts = (types.base_types().items(), types.enumerations(), types.aggregates())
        made = dict(zip(self._parts, map(_pack, sorts), strict=True))
        for name, text in made.items():
            _check_length(len(self._parts[name]) + len(text))
        for name, text in made.items():
            self._parts[name] += (b"," if self._parts[name] and text else b"") + text

    def finish(self, symbols: SymbolTable, declared: Mapping[str, int], banner: bytes) -> bytes:
        """The whole file.

        Args:
            symbols: The kernel's, at their link addresses: volatility3 moves them by what it finds.
            declared: The types, by row, of variables that BTF does not describe.
            banner: ``linux_banner``, newline included: volatility3 searches memory for it.

        Raises:
            FormatError: if a name is beyond what a kernel has.
        """
        parts = {**self._parts, "symbols": _pack(_symbols(self._own, symbols, declared, banner))}
        texts = [b'"%b":{%b}' % (name.encode(), bytes(text)) for name, text in parts.items()]
        return b'{"metadata":%b,%b}' % (msgspec.json.encode(_METADATA), b",".join(texts))


def _pack(entries: Iterable[tuple[str, Any]]) -> bytearray:
    """What is between the braces of an object of JSON; no entry holds much memory for long."""
    encode = msgspec.json.Encoder().encode
    text = bytearray()
    for name, value in entries:
        text += b"," if text else b""
        text += encode(name) + b":" + encode(value)
        _check_length(len(text))
    return text


def _check_length(length: int) -> None:
    if length > _MAX_TEXT:
        raise FormatError(f"BTF: what it says has more than {_MAX_TEXT} bytes")


class _Types:
    """The types of one kernel, or those that a module has besides.

    Attributes:
        table: BTF.
        integers: Of each size and sign, an integer; shared by all that one file has.
        taken: Names by sort; shared likewise.
    """

    def __init__(
        self,
        table: TypeTable,
        *,
        char_is_signed: bool,
        kernel: _Types | None = None,
        first: int = 0,
        ending: str = "",
    ) -> None:
        self.table = table
        self._char_is_signed = char_is_signed
        self._kernel, self._first, self._ending = kernel, first, ending
        self._meant = table.referred(*MODIFIERS)
        self._check_nesting()
        self._names: dict[int, str] = {}
        self._described: dict[int, _Type] = {}
        self.integers: dict[tuple[int, bool], str] = kernel.integers if kernel else {}
        self.taken: dict[str, set[str]] = kernel.taken if kernel else defaultdict(set)
        self._labels = self._label()

    def followed_by(self, own: ModuleTypes) -> _Types:
        """The types of a module; what it has of the kernel's is called as it is here."""
        return _Types(
            own.table,
            char_is_signed=self._char_is_signed,
            kernel=self,
            first=own.first,
            ending=f".{own.module}",
        )

    def _own(self, *kinds: Kind) -> Rows:
        return self.table.of_kind(*kinds, first=self._first)

    def _check_nesting(self) -> None:
        """Refuse a pointer that leads to itself: each is written with all that it leads to."""
        table = self.table
        arrays, pointers = table.of_kind(Kind.ARRAY), table.of_kind(Kind.PTR)
        inner = np.zeros(len(table), dtype=np.int64)
        inner[pointers] = self._meant[table.target[pointers]]
        inner[arrays] = self._meant[table.words[table.place[arrays]]]
        at = np.arange(len(table))
        for _ in range(_MAX_NESTING):
            at = inner[at]
        endless = np.flatnonzero(inner[at])
        if len(endless):
            raise FormatError(f"BTF: type {int(endless[0])} leads through {_MAX_NESTING} others")

    def name(self, at: int) -> str:
        """The name at ``at``."""
        name = self._names.get(at)
        if name is None:
            end = self.table.strings.find(b"\0", at, at + _MAX_NAME + 1)
            if end < 0:
                raise FormatError(f"BTF: the name at {at} is longer than {_MAX_NAME}")
            name = self._names[at] = self.table.strings[at:end].decode("ascii", "replace")
        return name

    def _label(self) -> dict[int, list[str]]:
        """What structures, unions and enumerations are called, by row; no two of a sort alike.

        The first is the one that references have. BTF keeps one type of several without a name
        that are alike: each of their typedefs is a name of it.
        """
        table = self.table
        typedefs: dict[int, list[int]] = {}
        rows = self._own(Kind.TYPEDEF)
        targets = table.referred(Kind.TYPE_TAG)[table.target[rows]]
        for target, name in zip(targets.tolist(), table.name[rows].tolist(), strict=True):
            typedefs.setdefault(target, []).append(name)
        labels: dict[int, list[str]] = {}
        for sort, kinds in (("aggregates", tuple(_AGGREGATES)), ("enumerations", _ENUMERATIONS)):
            rows = self._own(*kinds)
            rows = rows[np.argsort(table.name[rows] == 0, kind="stable")]  # tags before typedefs
            taken = self.taken[sort]
            for row, name in zip(rows.tolist(), table.name[rows].tolist(), strict=True):
                names = map(self.name, [name] if name else typedefs.get(row, []))
                found = [name for name in dict.fromkeys(names) if name and name not in taken]
                labels[row] = found or [f"{self.name(name) or 'unnamed'}.{row}{self._ending}"]
                taken.update(labels[row])
        return labels

    def describe(self, row: int) -> _Type:
        """How a reference to a type is written."""
        row = int(self._meant[row])
        if self._kernel is not None and row < self._first:
            return self._kernel.describe(row)
        found = self._described.get(row)
        if found is None:
            found = self._described[row] = self._describe(row)
        return found

    def _describe(self, row: int) -> _Type:
        table = self.table
        kind, target = int(table.kind[row]), int(table.target[row])
        described: _Type = _VOID
        match kind:
            case Kind.PTR:
                described = {"kind": "pointer", "subtype": self.describe(target)}
            case Kind.ARRAY:
                element, _, count = table.words[table.place[row] :][:3].tolist()
                described = {"kind": "array", "count": count, "subtype": self.describe(element)}
            case Kind.STRUCT | Kind.UNION:
                described = {"kind": _AGGREGATES[Kind(kind)], "name": self._labels[row][0]}
            case Kind.ENUM | Kind.ENUM64 if target in _SIZES:
                described = {"kind": "enum", "name": self._labels[row][0]}
            case Kind.FWD:
                sort = Kind.UNION if table.flag[row] else Kind.STRUCT
                described = {"kind": _AGGREGATES[sort], "name": self.name(int(table.name[row]))}
            case Kind.INT | Kind.FLOAT:
                described = {"kind": "base", "name": self.name(int(table.name[row]))}
            case Kind.FUNC_PROTO:
                described = {"kind": "function"}
        return described

    def base_types(self) -> dict[str, dict[str, Any]]:
        """Integers and the like; of each size there is one for enumerations."""
        table = self.table
        result: dict[str, dict[str, Any]] = {
            "void": _base_type(0, "void", is_signed=False),
            "pointer": _base_type(_POINTER_SIZE, "int", is_signed=False),
        }
        for row in self._own(Kind.INT, Kind.FLOAT).tolist():
            name, size = self.name(int(table.name[row])), int(table.target[row])
            kind, is_signed = "float", True
            if table.kind[row] == Kind.INT:
                encoding = int(table.words[table.place[row]]) >> 24
                kind = "bool" if encoding & _INT_BOOL else "char" if size == 1 else "int"
                is_signed = bool(encoding & _INT_SIGNED) or (
                    name == "char" and self._char_is_signed
                )
                if kind == "int":
                    self.integers.setdefault((size, is_signed), name)
            result.setdefault(name, _base_type(size, kind, is_signed=is_signed))
        for size in _SIZES:
            for is_signed in (False, True):
                name = f"{'s' if is_signed else 'u'}{8 * size}"
                if self.integers.setdefault((size, is_signed), name) == name:
                    result[name] = _base_type(size, "int", is_signed=is_signed)
        taken = self.taken["base types"]
        new = {name: it for name, it in result.items() if name not in taken}
        taken.update(new)
        return new

    def enumerations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Enumerations; ``base_types`` comes first."""
        table = self.table
        for kind in _ENUMERATIONS:
            rows = self._own(kind)
            found = table.elements(rows)
            names = found.words[:, 0].tolist()
            values = table.enumerator_values(rows, found).tolist()
            ends = np.cumsum(table.count[rows]).tolist()
            for row, start, end in zip(rows.tolist(), [0, *ends], ends, strict=False):
                size, is_signed = int(table.target[row]), bool(table.flag[row])
                if size not in _SIZES:
                    continue
                some = values[start:end] if is_signed else [v % 2**64 for v in values[start:end]]
                constants = dict(zip(map(self.name, names[start:end]), some, strict=True))
                base = self.integers[size, is_signed]
                described = {"size": size, "base": base, "constants": constants}
                yield from ((label, described) for label in self._labels[row])

    def aggregates(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Structures and unions."""
        table = self.table
        for kind, name in _AGGREGATES.items():
            rows = self._own(kind)
            members = table.elements(rows)
            bits, offset = table.bit_fields(rows[members.owner], members.words)
            columns = (members.words[:, 0], members.words[:, 1], bits, offset)
            fields = zip(*(column.tolist() for column in columns), strict=True)
            for row, count in zip(rows.tolist(), table.count[rows].tolist(), strict=True):
                some = dict(self._field(number, *next(fields)) for number in range(count))
                described = {"size": int(table.target[row]), "kind": name, "fields": some}
                yield from ((label, described) for label in self._labels[row])

    def _field(self, number: int, name: int, target: int, bits: int, at: int) -> tuple[str, _Field]:
        described = self.describe(target)
        label = self.name(name) or f"unnamed_field_{number}"
        if bits and described["kind"] in {"base", "enum"}:
            start, position = self._bit_place(target, bits, at)
            described = {
                "kind": "bitfield",
                "bit_position": position,
                "bit_length": bits,
                "type": described,
            }
            return label, _Field(described, start)
        is_inner = not name and described["kind"] in _AGGREGATES.values()
        return label, _Field(described, at // 8, is_inner)

    def _bit_place(self, target: int, bits: int, at: int) -> tuple[int, int]:
        """The byte of a bit-field's word, and where it starts in that, in bits."""
        word = 8 * int(self.table.target[self._meant[target]]) or 8
        start, position = at // word * word, at % word
        if position + bits > word:  # it is packed
            start, position = at // 8 * 8, at % 8
        return start // 8, position


def _base_type(size: int, kind: str, *, is_signed: bool) -> dict[str, Any]:
    return {"size": size, "signed": is_signed, "kind": kind, "endian": "little"}


def _symbols(
    types: _Types, symbols: SymbolTable, declared: Mapping[str, int], banner: bytes
) -> Iterator[tuple[str, _Symbol]]:
    """The first symbol of each name."""
    table = types.table
    rows = dict(declared)
    for row in table.of_kind(Kind.VAR).tolist():
        rows[types.name(int(table.name[row]))] = int(table.target[row])
    done: set[str] = set()
    for name, address in zip(symbols.names, symbols.addresses.tolist(), strict=True):
        if name in done:
            continue
        done.add(name)
        symbol = _Symbol(address, types.describe(rows.get(name, 0)))
        yield name, _with_content(symbol, banner + b"\0") if name == _BANNER else symbol


def _with_content(symbol: _Symbol, content: bytes) -> _Symbol:
    described = {"kind": "array", "count": len(content), "subtype": _CHAR}
    return _Symbol(symbol.address, described, base64.b64encode(content).decode())
