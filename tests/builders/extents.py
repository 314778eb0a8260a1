"""Extent tables, written row by row."""

from __future__ import annotations

import numpy as np

from vmcorefs.core.space.extents import Extents, Kind

Row = tuple[int, int, int, int, Kind]


def table(*rows: Row) -> Extents:
    """Rows of start, size, offset, source, kind."""
    columns = list(zip(*rows, strict=True))
    types = (np.int64, np.int64, np.int64, np.int32, np.int8)
    return Extents(*(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))
