"""What is kept of a dump."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from vmcorefs.reports.report.schema import Report

VERSION: Final = 1
"""Version of the rows: it grows with the table's columns. The report has one of its own."""

Outcome = Literal["ok", "partial", "failed", "timeout", "memory", "killed"]


class Answer(msgspec.Struct, frozen=True):
    """What became of opening a dump.

    Attributes:
        outcome: ``ok``; ``partial``: read, but it lacks memory that it should hold; ``failed``: no
            dump, or one that cannot be read; ``timeout`` and ``memory``: it took more than it may;
            ``killed``: the process ended without an answer.
        reason: Why it is not ``ok``.
        report: Why the machine died, as far as that could be told.
        calls: Those that led to the crash, as they are compared.
        peak: Most bytes of memory that it took at once; None if that is not known.
        page: The report as a page, compressed with zlib; nothing, if there is no report.
    """

    outcome: Outcome
    reason: str = ""
    report: Report | None = None
    calls: tuple[str, ...] = ()
    peak: int | None = None
    page: bytes = b""


class Opened(msgspec.Struct, frozen=True):
    """A dump that was opened.

    Attributes:
        row: A ``Row``, in JSON.
        page: As in ``Answer``.
    """

    row: bytes
    page: bytes = b""


class Row(msgspec.Struct, frozen=True):
    """A dump and what is known of it.

    Attributes:
        version: Of this structure.
        key: What the dump is known by.
        dump: Its path or URL; what cannot be printed in it is escaped.
        size: Bytes.
        modified: When it was last changed, in seconds since 1970.
        etag: What a store calls its content.
        finished: When it was opened, in seconds since 1970.
        seconds: What that took, by the clock.
        outcome, reason, calls, peak, report: As for ``Answer``.
    """

    version: int
    key: str
    dump: str
    size: int | None
    modified: float | None
    etag: str
    finished: float
    seconds: float
    outcome: Outcome
    reason: str
    calls: tuple[str, ...]
    peak: int | None
    report: Report | None
