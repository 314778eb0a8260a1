"""What drgn and its helpers raise where memory, types or symbols do not give an answer."""

from __future__ import annotations

from typing import Final

import drgn
from drgn.helpers import ValidationError

from vmcorefs.reports.report.asked import ABSENT as OURS

ABSENT: Final[tuple[type[Exception], ...]] = (
    *OURS,
    drgn.FaultError,  # memory that no input holds, and pointers to nowhere
    drgn.MissingDebugInfoError,
    drgn.ObjectAbsentError,
    drgn.OutOfBoundsError,
    getattr(drgn, "BadDataError", drgn.FaultError),  # VMCOREINFO that is torn
    ValidationError,  # structures that contradict each other
    ValueError,
    OverflowError,
    RecursionError,
    LookupError,  # no such variable, type or enumerator in this kernel
    AttributeError,  # no such member
)
