"""The kernel's log, with its end in view."""

from __future__ import annotations

from typing import Final

from vmcorefs.reports.report.html.markup import Markup, join, tag, text
from vmcorefs.reports.report.logged import complains

_MOST: Final = 1 << 20
"""Bytes of the log that are shown: its end."""
_LINES: Final = 8000
_PRINTED: Final = 120
"""Lines that paper gets."""


def show_log(log: bytes) -> Markup:
    """The end of the log; lines that warn are marked."""
    lines = log.decode("utf-8", "backslashreplace").splitlines()
    shown = log[-_MOST:].decode("utf-8", "backslashreplace").splitlines()[-_LINES:]
    if len(shown) < len(lines) and len(log) > _MOST:
        shown = shown[1:]  # a part of a line
    left = len(lines) - len(shown)
    before = (tag("p", f"{left} lines before these are not shown."),) if left > 0 else ()
    early, late = shown[:-_PRINTED], shown[-_PRINTED:]
    whole = tag("pre", tag("span", _mark(early), class_="on-screen"), _mark(late))
    # style.css lays it out from its end on, which is then in view
    box = tag("div", whole, class_="log", tabindex=0, role="region", aria_label="log")
    return join((*before, box))


def _mark(lines: list[str]) -> Markup:
    return Markup(
        "".join(f"{tag('mark', line) if _is_marked(line) else text(line)}\n" for line in lines)
    )


def _is_marked(line: str) -> bool:
    return complains(line) or "Kernel panic" in line
