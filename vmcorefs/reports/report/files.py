"""``report.txt`` and ``report.json``: the report as files of a tree, made when one is read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Final

import msgspec

from vmcorefs.errors import UnsupportedError
from vmcorefs.image import MemoryImage
from vmcorefs.system.memory import available_memory
from vmcorefs.system.terminal import format_json, format_lines
from vmcorefs.tree.file import TreeFile, text_file

if TYPE_CHECKING:
    from vmcorefs.reports.report.schema import Report

REPORT_TXT = "report.txt"
REPORT_JSON = "report.json"

_NEEDED: Final = 300 << 20
"""Bytes of memory that must be left for drgn: a report takes up to two thirds of that."""
_SHORT: Final = "this machine has too little memory left to follow the kernel's structures"


def report_files(image: MemoryImage) -> Iterator[TreeFile]:
    """Both files; nothing is imported, read or made for them before one is asked for."""
    available = available_memory()  # now: later, a daemon may open nothing

    making = Lock()  # both may be asked for at a time

    def report() -> Report:
        with making:
            return make()

    @cache
    def make() -> Report:
        is_short = available is not None and available < _NEEDED
        try:
            # here: few ask for it
            from vmcorefs.reports.report.gather import make_report  # noqa: PLC0415

            return make_report(image, without_drgn=_SHORT if is_short else "")
        except ImportError as error:  # a daemon may have given up what reading its modules takes
            raise UnsupportedError(f"{error}; `vmcorefs report` prints the same") from error

    yield text_file(REPORT_TXT, lambda: report_text(report()), is_sized_late=True)
    yield text_file(REPORT_JSON, lambda: report_json(report()), is_sized_late=True)


def report_text(report: Report) -> bytes:
    """What ``vmcorefs report`` prints."""
    from vmcorefs.reports.report.text import format_report  # noqa: PLC0415

    return format_lines(*format_report(report)).encode()


def report_json(report: Report) -> bytes:
    """What ``vmcorefs report --json`` prints."""
    return "".join(format_json(msgspec.to_builtins(report))).encode()
