"""Why a machine died, as far as its kernel's log tells: one report, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from vmcorefs.core.oops.title import CrashTitle, read_title
from vmcorefs.errors import FormatError
from vmcorefs.system.files import read_file

Report = dict[str, Any]
"""What ``vmcorefs report --json`` prints (docs/report.md)."""

MAX_LOG: Final = 256 << 20
"""Largest log that is read, in bytes: a console's of some days. A kernel keeps a few MiB."""

_NOTHING: Final = "no crash is reported in the log"


def read_log_file(path: str) -> bytes:
    """Read a kernel's log.

    Raises:
        ConfigError: if it cannot be read.
        FormatError: if it is larger than ``MAX_LOG``.
    """
    log = read_file(path, "a kernel's log", MAX_LOG)
    if len(log) > MAX_LOG:
        raise FormatError(f"{path}: more than {MAX_LOG >> 20} MiB, expected a kernel's log")
    return log


def report_log(log: bytes) -> Report:
    """Say what the first crash in a log is."""
    return _describe(read_title(log))


def _describe(crash: CrashTitle | None) -> Report:
    if crash is None:
        crash = CrashTitle()
        reason = _NOTHING
    else:
        reason = crash.mangled
    return {
        "title": crash.title,
        "alternatives": list(crash.alternatives),
        "class": str(crash.fault),
        "function": crash.function,
        "corrupted": bool(crash.mangled),
        "reason": reason,
    }


def format_report(report: Report) -> Iterator[str]:
    """Yield the lines of a report for people."""
    if not report["title"]:
        yield f"title: none: {report['reason']}"
        return
    yield f"title: {report['title']}"
    yield f"class: {report['class'] or 'none'}"
    for other in report["alternatives"]:
        yield f"or: {other}"
    yield f"function: {report['function'] or 'none'}"
    yield f"log: {'mangled: ' + report['reason'] if report['corrupted'] else 'whole'}"
