"""What a format has written, for the report."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.pages.dump_level import PageKind

Counts = npt.NDArray[np.int64]
"""Pages by ``PageKind``, shape ``(8,)``."""


class Written(msgspec.Struct, frozen=True):
    """What a format has written.

    Attributes:
        kept: Pages in the dump, by ``PageKind``, shape ``(8,)``.
        left_out: Pages that the level left out, likewise.
        size: Bytes of all files together.
        resumed: Pages that an earlier try had written.
    """

    kept: Counts
    left_out: Counts
    size: int
    resumed: int = 0


def no_counts() -> Counts:
    """No page of any kind."""
    return np.zeros(len(PageKind), dtype=np.int64)


def move_zeros(counts: tuple[Counts, Counts], zero_kinds: Counts, *, left_out: bool) -> None:
    """Count pages of zeros as such, and no more as what they were used for.

    Args:
        counts: Pages that are kept and left out; changed.
        zero_kinds: Of those that are kept, the ones that are zeros, by what they were used for.
        left_out: Whether the dump level leaves them out.
    """
    kept, out = counts
    kept -= zero_kinds
    (out if left_out else kept)[PageKind.ZERO] += zero_kinds.sum()
