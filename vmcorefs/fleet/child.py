"""Opens one dump, in a process that may die of it.

The memory that it may have is the address space (setrlimit(2), RLIMIT_AS): what a hostile dump
makes us ask for is refused before the machine runs out of it.
"""

from __future__ import annotations

import os
import resource
import traceback
import zlib
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from vmcorefs.config import CaptureConfig
from vmcorefs.confine import process
from vmcorefs.core.made_before import Made, keep
from vmcorefs.core.oops.stacks import normalise, read_calls
from vmcorefs.errors import TruncatedError, VmcorefsError
from vmcorefs.fleet.messages import Request, Said
from vmcorefs.fleet.row import Answer
from vmcorefs.image import open_image
from vmcorefs.piece import Piece
from vmcorefs.reports.report.gather import make_report
from vmcorefs.reports.report.html.page import make_page, shown_of
from vmcorefs.reports.report.schema import Report

MAX_ANSWER = 64 << 20
"""Bytes of an answer: a report of thousands of CPUs has some MiB."""


def open_and_tell(request: Request, before: Made, parent: int, answer: int) -> NoReturn:
    """Open a dump, write ``Said``, and end this process.

    Args:
        request: Which, and what it may take.
        before: What was made of other dumps.
        parent: The process with which this one ends.
        answer: The descriptor to write to.
    """
    status = 1
    keeper = keep(before)
    try:
        process.end_with_parent(parent)
        process.name_process("vmcorefs-triage")
        resource.setrlimit(resource.RLIMIT_AS, (request.memory, request.memory))
        said = Said(_tell([os.fsdecode(place) for place in request.places]), keeper.now)
        with os.fdopen(answer, "wb", closefd=False) as file:
            file.write(msgspec.msgpack.encode(said))
        status = 0
    finally:
        os._exit(status)  # nothing is left to do, and freeing what there was takes time


def _tell(places: Sequence[str]) -> bytes:
    try:
        said = msgspec.json.encode(open_dump(*places))
    except MemoryError:
        said = msgspec.json.encode(Answer("memory", "it took more memory than it may"))
    if len(said) > MAX_ANSWER:
        return msgspec.json.encode(
            Answer("failed", f"its report has {len(said)} bytes, expected {MAX_ANSWER} at most")
        )
    return said


def open_dump(*places: str) -> Answer:
    """Open a dump and say why its machine died; without all of its memory, if it must be.

    Args:
        places: Its file, or the parts of one that was split.

    Raises:
        MemoryError: if it takes more than it may.
    """
    try:
        try:
            return _answer(places)
        except TruncatedError as error:
            return msgspec.structs.replace(
                _answer(places, truncated=True), outcome="partial", reason=str(error)
            )
    except VmcorefsError as error:
        return Answer("failed", str(error))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # a bug, which costs this dump and no other
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = "".join(traceback.format_exception_only(error)).strip()
        return Answer("failed", f"a bug: {said} ({where.filename}:{where.lineno})")


def _answer(places: Sequence[str], *, truncated: bool = False) -> Answer:
    image = open_image(CaptureConfig(tuple(map(Piece, places)), truncated=truncated))
    try:
        # thousands of threads, of which no column is, and as much log are left out
        report = msgspec.structs.replace(make_report(image), threads=[])
        shown = msgspec.structs.replace(shown_of(image), log=None)
    finally:
        image.close()
    page = zlib.compress(make_page(report, shown))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if report.died.release is None and not report.crash.title:
        reason = next((missed.why for missed in report.unknown), "nothing is known of its kernel")
        return Answer("failed", reason, report, (), peak, page)
    return Answer("ok", "", report, calls_of(report), peak, page)


def calls_of(report: Report) -> tuple[str, ...]:
    """The calls that led to a crash: those that the log has, or else the stack of who ended it.

    A task that hangs is in the log, and who ended the machine for it is a watchdog.
    """
    calls = read_calls(report.crash.lines)
    if not calls and report.why.stack is not None:
        calls = normalise(report.why.stack.functions)
    return calls
