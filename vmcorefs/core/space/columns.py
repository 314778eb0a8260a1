"""Tables of columns: structures whose fields are arrays with an element for each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


class Columns(msgspec.Struct, frozen=True, eq=False):
    """A table of ``n`` rows: each field is a column, an array whose first dimension is ``n``."""

    def __len__(self) -> int:
        return len(getattr(self, self.__struct_fields__[0]))

    def rows(self, index: slice | BoolArray | npt.NDArray[np.int64]) -> Self:
        """The rows that ``index`` selects, in its order."""
        return type(self)(*(getattr(self, column)[index] for column in self.__struct_fields__))

    def is_same(self, other: Self) -> bool:
        """Whether the other table is equal, row by row."""
        return all(
            np.array_equal(getattr(self, column), getattr(other, column))
            for column in self.__struct_fields__
        )

    @classmethod
    def join(cls, tables: Iterable[Self]) -> Self:
        """The rows of one table or more, one table after the other."""
        tables = list(tables)
        return cls(
            *(
                np.concatenate([getattr(table, column) for table in tables])
                for column in cls.__struct_fields__
            )
        )

    @classmethod
    def weave(cls, tables: Sequence[Self], number: npt.NDArray[np.int32]) -> Self:
        """The rows of several tables, those of each in their order.

        Args:
            tables: One or more.
            number: Which table each row is of, shape ``(n,)``.
        """
        columns = []
        for column in cls.__struct_fields__:
            woven = np.empty(len(number), dtype=getattr(tables[0], column).dtype)
            for which, table in enumerate(tables):
                woven[number == which] = getattr(table, column)
            columns.append(woven)
        return cls(*columns)


def run_edges(joins: BoolArray) -> tuple[BoolArray, BoolArray]:
    """The first and the last row of each run, of one row or more.

    Args:
        joins: Whether each row but the first continues the one before it, shape ``(n - 1,)``.

    Returns:
        Two masks, shape ``(n,)``.
    """
    return np.concatenate(([True], ~joins)), np.concatenate((~joins, [True]))
