"""All targets: each is a few lines in the module that it belongs to. Import a new module here."""

from __future__ import annotations

from tests.fuzz import (
    binaries,
    crash_logs,
    discovery,
    dumps,
    given,
    kernel,
    modules,
    pages,
    paging,
    placed,
    tasks,
    texts,
    types_of_kernels,
    wrapped,
)
from tests.fuzz.target import TARGETS, Target

__all__ = [
    "TARGETS",
    "Target",
    "binaries",
    "crash_logs",
    "discovery",
    "dumps",
    "given",
    "kernel",
    "modules",
    "pages",
    "paging",
    "placed",
    "tasks",
    "texts",
    "types_of_kernels",
    "wrapped",
]
