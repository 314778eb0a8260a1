"""What drgn and its helpers raise where memory, types or symbols do not give an answer."""

from __future__ import annotations

from typing import Final

import drgn

from vmcorefs.reports.report.asked import ABSENT as OURS

ABSENT: Final = (
    *OURS,
    drgn.FaultError,  # memory that no input holds, and pointers to nowhere
    drgn.ObjectAbsentError,
    drgn.OutOfBoundsError,
    LookupError,  # no such variable, type or enumerator in this kernel
    AttributeError,  # no such member
    ValueError,  # structures that contradict each other
)
