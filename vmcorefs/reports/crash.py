"""What a crash is called, as far as the kernel's log tells: for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.core.oops.title import CrashTitle, read_cause, read_panic, read_title
from vmcorefs.errors import FormatError
from vmcorefs.image import MemoryImage
from vmcorefs.system.files import read_file


class Crash(msgspec.Struct, frozen=True, rename={"fault": "class"}):
    """A crash in a log, as docs/report.md describes its fields.

    Attributes:
        title: What it is called; empty if the log reports no crash.
        alternatives: Other titles that the same bug may have.
        fault: The class of fault (``class`` in JSON).
        function: The one to blame, as the title has it.
        corrupted: Whether the log is too mangled to trust.
        reason: What is wrong with the log, or why there is no title.
        panic: The line of the kernel's last panic.
        lines: The report as the kernel printed it.
    """

    title: str
    alternatives: list[str]
    fault: str
    function: str
    corrupted: bool
    reason: str
    panic: str
    lines: list[str]


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


def report_log(log: bytes) -> Crash:
    """Say what the first crash in a log is."""
    return _describe(log, read_title(log))


def report_image(image: MemoryImage) -> Crash:
    """Say what the kernel in an image died of, by its log."""
    if image.log is None:
        return _describe(b"", None, _why_no_log(image))
    return _describe(image.log, read_cause(image.log))


def _why_no_log(image: MemoryImage) -> str:
    if image.kernel is None:
        return f"no log: {image.no_kernel}"
    _, reason = image.kernel.log
    return reason or "no dmesg: VMCOREINFO does not lead to it"


def _describe(log: bytes, crash: CrashTitle | None, nothing: str = _NOTHING) -> Crash:
    if crash is None:
        crash, reason = CrashTitle(), nothing
    else:
        reason = crash.mangled
    return Crash(
        title=crash.title,
        alternatives=list(crash.alternatives),
        fault=str(crash.fault),
        function=crash.function,
        corrupted=bool(crash.mangled),
        reason=reason,
        panic=_decode(read_panic(log)),
        lines=[_decode(line) for line in crash.lines],
    )


def _decode(text: str) -> str:
    return text.encode("latin-1").decode(errors="backslashreplace")


def format_crash(crash: Crash) -> Iterator[str]:
    """Yield the lines of a report for people."""
    if not crash.title:
        yield f"title: none: {crash.reason}"
        return
    yield f"title: {crash.title}"
    yield f"class: {crash.fault or 'none'}"
    for other in crash.alternatives:
        yield f"or: {other}"
    yield f"function: {crash.function or 'none'}"
    yield f"panic: {crash.panic or 'none in the log'}"
    yield f"log: {'mangled: ' + crash.reason if crash.corrupted else 'whole'}"
    yield ""
    yield from crash.lines
