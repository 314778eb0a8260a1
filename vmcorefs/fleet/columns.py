"""Rows as columns: the report, flattened.

The columns are made from the structures of the row and the report. What is in an object is a column
of its own, with the names of both (``died_host``); a list is a list of its elements, whole. A
number that no column can hold is null. The list of all threads has no column: on a large machine it
is more than all else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pyarrow as pa

from vmcorefs.fleet.groups import Place
from vmcorefs.fleet.row import VERSION, Row

_VERSION_KEY: Final = b"vmcorefs.triage"
_THREADS: Final = ("report", "threads")
_UNSIGNED: Final = frozenset({"pc", "address"})
_PLACE: Final = {"group": "group_id", "title": "group_title", "why": "group_why", "stack": "stack"}
_SCALARS: Final = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}

Path = tuple[str, ...]


def _plain(kind: Any) -> Any:  # noqa: ANN401  # a type
    """A type without None."""
    if get_origin(kind) in {Union, UnionType}:
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    return kind


def _is_struct(kind: Any) -> bool:  # noqa: ANN401
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _fields(struct: type[msgspec.Struct]) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        yield field.encode_name, _plain(hints[field.name])


def _arrow(kind: Any, name: str = "") -> pa.DataType:  # noqa: ANN401
    if kind is int and name in _UNSIGNED:
        return pa.uint64()
    if kind in _SCALARS:
        return _SCALARS[kind]
    if get_origin(kind) is Literal:
        return pa.string()
    if _is_struct(kind):
        return pa.struct([pa.field(name, _arrow(one, name)) for name, one in _fields(kind)])
    arguments = [_plain(one) for one in get_args(kind)]
    if get_origin(kind) is dict:
        return pa.map_(_arrow(arguments[0]), _arrow(arguments[1]))
    return pa.list_(_arrow(arguments[0]))


def _flatten(struct: type[msgspec.Struct], above: Path = ()) -> Iterator[tuple[Path, pa.DataType]]:
    for name, kind in _fields(struct):
        path = (*above, name)
        if path == _THREADS:
            continue
        if _is_struct(kind):
            yield from _flatten(kind, path)
        else:
            yield path, _arrow(kind, name)


_COLUMNS: Final = {"_".join(path).removeprefix("report_"): (path, t) for path, t in _flatten(Row)}

SCHEMA: Final = pa.schema(
    [
        *(pa.field(name, kind) for name, (_, kind) in _COLUMNS.items()),
        *(pa.field(name, pa.string()) for name in _PLACE.values()),
    ],
    metadata={_VERSION_KEY: str(VERSION).encode()},
)
"""The columns of the table."""


def version_of(schema: pa.Schema) -> int | None:
    """The version of a table; None if it is none of ours."""
    told = (schema.metadata or {}).get(_VERSION_KEY, b"")
    return int(told) if told.isdigit() else None


def to_batch(rows: Sequence[Row], places: Sequence[Place]) -> pa.RecordBatch:
    """Rows, and where each belongs, as columns."""
    built = [msgspec.to_builtins(row) for row in rows]
    arrays = [
        pa.array([_fit(_get(one, path), kind) for one in built], kind)
        for path, kind in _COLUMNS.values()
    ]
    return pa.record_batch([*arrays, *_places(places)], SCHEMA)


def adapt(batch: pa.RecordBatch, places: Sequence[Place]) -> pa.RecordBatch:
    """The columns of a table of this or an older version, with new places.

    A column that it lacks is null, and so is what does not fit in it any more.
    """
    arrays = []
    for name, (_, kind) in _COLUMNS.items():
        found = batch.schema.get_field_index(name)
        if found < 0:
            arrays.append(pa.nulls(len(batch), kind))
        elif batch.schema.field(found).type == kind:
            arrays.append(batch.column(found))
        else:
            values = batch.column(found).to_pylist()
            arrays.append(pa.array([_fit(one, kind) for one in values], kind))
    return pa.record_batch([*arrays, *_places(places)], SCHEMA)


def _places(places: Sequence[Place]) -> list[pa.Array]:
    return [
        pa.array([getattr(one, name) or None for one in places], pa.string()) for name in _PLACE
    ]


def _get(value: Any, path: Path) -> Any:  # noqa: ANN401
    for name in path:
        if value is None:
            return None
        value = value[name]
    return value


def _fit(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401
    """A value as a column of a type takes it."""
    if value is None:
        return None
    if pa.types.is_integer(kind):
        low, high = (0, 1 << 64) if kind == pa.uint64() else (-1 << 63, 1 << 63)
        return value if isinstance(value, int) and low <= value < high else None
    if pa.types.is_list(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind):
        return _fit_parts(value, kind)
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else None
    return value if isinstance(value, bool | int | float) else None


def _fit_parts(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return [(name, _fit(one, kind.item_type)) for name, one in pairs]
    if pa.types.is_list(kind):
        return [_fit(one, kind.value_type) for one in value]
    return {field.name: _fit(value.get(field.name), field.type) for field in kind}
