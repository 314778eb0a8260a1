"""Long lists of a report, which are looked at and printed without being made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

_AT_ONCE = 1 << 14

_ENCODER = msgspec.json.Encoder()

Rows = Any
"""A numpy array whose rows are the elements."""


def _as_lists(rows: Rows) -> Iterable[Any]:
    return rows.tolist()  # type: ignore[no-any-return]


class Listing(Sequence[Any]):
    """A list whose elements are made when they are asked for: a map may have a million ranges.

    Equal to a list of equal elements.
    """

    def __init__(self, rows: Rows, make: Callable[[Rows], Iterable[Any]] = _as_lists) -> None:
        """Take the rows.

        Args:
            rows: One for each element.
            make: Makes the elements of some rows.
        """
        self._rows = rows
        self._make = make

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[Iterable[Any]]:
        """Its elements, a few thousand at a time."""
        for first in range(0, len(self), _AT_ONCE):
            yield self._make(self._rows[first : first + _AT_ONCE])

    def __getitem__(self, index: int | slice) -> Any:  # noqa: ANN401  # an element, or a list
        if isinstance(index, slice):
            return list(self._make(self._rows[index]))
        return next(iter(self._make(self._rows[range(len(self))[index] :][:1])))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def list_rows(rows: Rows, make: Callable[[Rows], Iterable[Any]] = _as_lists) -> list[Any] | Listing:
    """What ``Listing`` says, as an ordinary list where it is not long."""
    return list(make(rows)) if len(rows) <= _AT_ONCE else Listing(rows, make)


def _encode_lines(elements: list[Any]) -> str:
    """A line of JSON in ASCII for each: by msgspec, as a call of json.dumps takes 3 us."""
    try:
        return _ENCODER.encode_lines(elements).decode("ascii").rstrip("\n")
    except UnicodeError:
        return "\n".join(map(json.dumps, elements))


def iter_json(value: object, indent: int = 1) -> Iterator[str]:
    """The text of ``json.dumps(value, indent=1)``, but an element of a ``Listing`` is a line."""
    margin = "\n" + " " * indent
    if isinstance(value, Listing):
        if not value:
            yield "[]"
            return
        for number, batch in enumerate(value.batches()):
            lines = _encode_lines(list(batch)).replace("\n", f",{margin}")
            yield f"{',' if number else '['}{margin}{lines}"
        yield f"{margin[:-1]}]"
    elif isinstance(value, dict) and value:
        for number, (key, held) in enumerate(value.items()):
            yield f"{',' if number else '{'}{margin}{json.dumps(key)}: "
            yield from iter_json(held, indent + 1)
        yield f"{margin[:-1]}}}"
    elif isinstance(value, list) and value:
        for number, held in enumerate(value):
            yield f"{',' if number else '['}{margin}"
            yield from iter_json(held, indent + 1)
        yield f"{margin[:-1]}]"
    else:
        yield json.dumps(value)
