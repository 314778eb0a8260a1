"""Making HTML, so that whatever an image says stays text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from vmcorefs.system.terminal import printable


class Markup(str):
    """Text that is HTML already; any other text is escaped when it gets into an element."""

    __slots__ = ()


EMPTY: Final = Markup()

_WITHOUT_END: Final = frozenset({"input", "meta"})  # HTML, "Void elements"

_LONGEST: Final = 300
"""Characters of a name or a cell; the kernel's names have 64 at most, but a path may be long."""


def text(value: str) -> Markup:
    """Escape text: for HTML, and what acts on a reader's screen as ``printable`` does."""
    return value if isinstance(value, Markup) else Markup(escape(printable(value)))


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Several texts as one; ``between`` is HTML."""
    return Markup(between.join(map(text, parts)))


def tag(name: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element with what is in it.

    Args:
        name: Of the element.
        children: Elements, or text.
        attributes: By name, with ``_`` for ``-`` and at the end of a word of Python's; those that
            are None or false are left out, and true ones have no value.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{text(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    end = "" if name in _WITHOUT_END else f"</{name}>"
    return Markup(f"<{name}{said}>{join(children)}{end}")


def name(value: str) -> Markup:
    """A name within a sentence, whose direction does not turn what stands beside it."""
    return tag("bdi", shorten(value))


def shorten(value: str) -> str:
    """A text that is no longer than names are."""
    if isinstance(value, Markup) or len(value) <= _LONGEST:
        return value
    return f"{value[:_LONGEST]}… ({len(value)} characters)"


def items(values: Iterable[str], **attributes: str | None) -> Markup:
    """A list."""
    return tag("ul", *(tag("li", value) for value in values), **attributes)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], **attributes: str | None) -> Markup:
    """A table of cells without attributes of their own."""
    head = tag("thead", tag("tr", *(tag("th", one, scope="col") for one in heads)))
    body = tag("tbody", *(tag("tr", *(tag("td", shorten(cell)) for cell in row)) for row in rows))
    return tag("div", tag("table", head, body, **attributes), class_="wide")
