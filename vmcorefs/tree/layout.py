"""``layout.json``: where every byte of every file of the tree is from (docs/layout.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from vmcorefs.core.space.extents import Kind
from vmcorefs.core.space.ranges import Int64Array, distinct
from vmcorefs.errors import VmcorefsError
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource
from vmcorefs.sources.input import Input
from vmcorefs.tree.file import TreeFile, text_file, whole

_ROWS = 1 << 14  # extents that are text at a time
_BEFORE_ROW = "\n    "
_TENS = np.array([10**power for power in range(1, 19)], dtype=np.int64)


def layout_file(files: Mapping[str, TreeFile], inputs: Sequence[Input] = ()) -> TreeFile:
    """``layout.json``: for every byte range of every file in ``files``, where its bytes come from.

    Its text is made when it is read; its size is worked out of the tables.
    """

    @cache  # of what may change, as the plane of a file, its size and its text say the same
    def pieces() -> tuple[str | Reader, ...]:
        return tuple(_iter_pieces(files, inputs))

    return text_file(
        "layout.json",
        lambda: b"".join(part.encode() for piece in pieces() for part in _iter_text(piece)),
        lambda: sum(map(_text_size, pieces())),
    )


def describe_input(source: Input) -> dict[str, object]:
    """Which file an input is, as ``layout.json`` and ``inspect --json`` have it."""
    identity, digest = source.identity, source.digest
    return {
        "path": source.origin,
        "role": source.role,
        "kind": source.kind,
        "size": source.size,
        "device": identity.device,
        "inode": identity.inode,
        "mtime_ns": identity.mtime_ns,
        "version": identity.version or None,
        "wrappers": list(source.wrappers),
        "format": source.format,
        "digest": {digest.algorithm: digest.value} if digest is not None else None,
    }


def _iter_pieces(files: Mapping[str, TreeFile], inputs: Sequence[Input]) -> Iterator[str | Reader]:
    """The text in order; a reader stands for the rows of its table."""
    # one extent a line: for people, for grep, and for diff
    rows = ",".join(f"\n  {json.dumps(describe_input(source))}" for source in inputs)
    yield f'{{\n "version": 1,\n "inputs": [{rows}\n ],\n "files": {{'
    for number, (path, file) in enumerate(files.items()):
        yield f"{',' if number else ''}\n  {json.dumps(path)}: {{\n"
        try:
            size = file.size
            reader = _table_of(file)
        except VmcorefsError as error:
            yield f'   "size": null,\n   "error": {json.dumps(str(error))}\n  }}'
            continue
        yield f'   "size": {size},\n'
        if file.describe_plane is not None:
            yield f'   "plane": {json.dumps(file.describe_plane())},\n'
        yield '   "extents": ['
        yield reader
        yield "\n   ]\n  }"
    yield "\n }\n}\n"


def _table_of(file: TreeFile) -> Reader:
    """What has the table of a file; a text that has only been measured is not made for it."""
    if file.is_made or not (file.is_text and file.is_measured):
        return file.reader
    return Reader(file.path, whole(0, file.size), (BytesSource(file.path, b""),))


def _iter_text(piece: str | Reader) -> Iterator[str]:
    if isinstance(piece, str):
        yield piece
        return
    for first in range(0, len(piece.table), _ROWS):
        extents = iter_extents(piece, first, first + _ROWS)
        text = ",".join(f"{_BEFORE_ROW}{json.dumps(extent)}" for extent in extents)
        yield f"{',' if first else ''}{text}"


def _text_size(piece: str | Reader) -> int:
    """Bytes in all that ``_iter_text`` yields; JSON is ASCII."""
    if isinstance(piece, str):
        return len(piece)
    table = piece.table
    size = len(table) * len(_BEFORE_ROW) + max(len(table) - 1, 0)
    size += _digits(table.start) + _digits(table.size)
    size += _digits(table.offset[table.kind == Kind.DATA])
    # rows of one kind and one source differ in their numbers alone
    alike = table.source.astype(np.int64) * len(Kind) + table.kind
    for value in distinct(alike).tolist():
        rows = np.flatnonzero(alike == value)
        number = int(rows[0])
        (extent,) = iter_extents(piece, number, number + 1)
        numbers = [value for value in extent.values() if isinstance(value, int)]
        fixed = len(json.dumps(extent)) - sum(len(str(number)) for number in numbers)
        size += fixed * len(rows)
    return size


def _digits(values: Int64Array) -> int:
    """Decimal digits in all of the values, which are not negative."""
    return len(values) + int(np.searchsorted(_TENS, values, side="right").sum())


def iter_extents(
    reader: Reader, first: int = 0, end: int | None = None
) -> Iterator[dict[str, object]]:
    """Each extent of a file as ``layout.json`` has it, in order of offset, without a gap."""
    table = reader.table.rows(slice(first, end))
    columns = (table.start, table.size, table.offset, table.source, table.kind)
    for start, size, offset, source, kind in zip(*(c.tolist() for c in columns), strict=True):
        row: dict[str, object] = {"offset": start, "size": size, "kind": Kind(kind).name.lower()}
        if kind == Kind.DATA:
            held = reader.sources[source]
            row |= {"from": held.role, "source": held.origin, "source_offset": offset}
        yield row
