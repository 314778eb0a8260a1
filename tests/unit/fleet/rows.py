"""Rows by hand."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import replace

from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.one import make_row
from vmcorefs.fleet.row import Answer
from vmcorefs.reports.crash import report_log
from vmcorefs.reports.report.gather import NOTHING_KNOWN
from vmcorefs.reports.report.schema import Cpu, Frame, Report, Stack, Task, Why

Struct = TypeVar("Struct", bound=msgspec.Struct)

CALLS = ("frob_read", "frob_ioctl", "frob_open")


def make(kind: type[Struct], **given: Any) -> Struct:
    """A structure of a report, with nothing in the fields that are not given."""
    hints = get_type_hints(kind)
    absent = {
        field.name: None
        if isinstance(hint := hints[field.name], UnionType) and NoneType in get_args(hint)
        else (get_origin(hint) or hint)()
        for field in msgspec.structs.fields(kind)
        if field.required and field.name not in given
    }
    return kind(**absent | given)


def report(title: str = "BUG in frob", host: str = "web-1", pc: int = 1 << 63) -> Report:
    task = Task(1, 1, "init", "R")
    stack = Stack([Frame(pc, "frob_read", 5)])
    known = replace(NOTHING_KNOWN.died, host=host, release="6.1.0", time=1_790_000_000.0)
    why = Why(panicked=True, taints=[], cpu=0, task=task, stack=stack)
    return replace(
        NOTHING_KNOWN,
        died=known,
        crash=replace(report_log(b""), title=title),
        why=why,
        cpus=[make(Cpu, task=task, panicked=True, running=1, stack=stack)],
        tasks={"R": 1, "S": 40},
    )


def row(name: str, size: int = 1, said: Report | None = None) -> bytes:
    answer = Answer("ok", "", said or report(), CALLS, 1 << 20)
    return make_row(Dump(name, size, 1.0), answer, 1.5).row


def failed(name: str) -> bytes:
    return make_row(Dump(name, 1, 1.0), Answer("timeout", "it took more than 1 s"), 1.0).row
