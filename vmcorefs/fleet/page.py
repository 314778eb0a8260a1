"""``index.html``: groups, when, on which kernels and hosts, and the dumps; one file, no network."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from vmcorefs.fleet.groups import Place
from vmcorefs.fleet.table import Known
from vmcorefs.reports.report.html.document import document
from vmcorefs.reports.report.html.markup import Markup, join, tag
from vmcorefs.system.terminal import printable

_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""In JSON these are in strings alone; escaped, nothing in them ends the element that it is in."""
_YEARS: Final = range(1970, 9999)
_FIND: Final = tag("input", id="find", type="search", placeholder="title, dump, host, kernel")
_GROUPS: Final = {
    "crash": None,
    "dumps": "n",
    "hosts": "n",
    "kernels": "n",
    "stacks": "n",
    "first": "t",
    "last": "t",
}
_DUMPS: Final = {
    "dump": None,
    "died (UTC)": "t",
    "host": None,
    "kernel": None,
    "crash": None,
    "why here": None,
}


def make_page(placed: Iterable[tuple[Known, Place]], reports: dict[str, str]) -> bytes:
    """Make the page.

    What rows say is JSON in it, which the page's script turns into text and nothing else.

    Args:
        placed: Each row and its place.
        reports: The relative URL of a dump's report, by the dump's key.
    """
    numbers: dict[str, int] = {}
    titles: list[str] = []
    rows = []
    for known, place in placed:
        if place.group not in numbers:
            numbers[place.group] = len(titles)
            titles.append(printable(place.title))
        texts = (known.dump, known.outcome, known.reason, known.host, known.release, place.why)
        dump, outcome, reason, host, release, why = (printable(text or "") for text in texts)
        link = reports.get(known.key, "")
        group = numbers[place.group]
        time = _time(known.time)
        rows.append((dump, outcome, reason, time, host, release, group, place.stack, why, link))
    data = msgspec.json.encode({"groups": titles, "rows": rows}).decode()
    for character, escape in _ESCAPES.items():
        data = data.replace(character, escape)
    return document(
        "Crashes",
        "vmcorefs.fleet",
        tag("h1", "Crashes"),
        tag("p", id="sum"),
        tag("p", _FIND, " ", tag("button", "show all", id="all", type="button")),
        tag("div", *map(_chart, ("days", "kernels", "hosts")), class_="charts"),
        tag("h2", "Groups"),
        _table("groups", _GROUPS),
        tag("h2", "Dumps"),
        _table("dumps", _DUMPS),
        tag("script", Markup(data), id="data", type="application/json"),
    )


def _chart(of: str) -> Markup:
    return tag("section", tag("h2", f"By {of.removesuffix('s')}"), tag("div", id=of))


def _table(of: str, heads: dict[str, str | None]) -> Markup:
    """A table that the script fills, and where it says how many rows more there are."""
    head = tag("tr", *(tag("th", head, class_=kind) for head, kind in heads.items()))
    body = tag("tbody", id=of)
    table = tag("div", tag("table", tag("thead", head), body), class_="wide")
    return join((table, tag("p", id=f"more{of}")))


def _time(seconds: float | None) -> float | None:
    """Seconds since 1970, if a calendar has them."""
    try:
        year = datetime.fromtimestamp(seconds or 0, UTC).year
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if year in _YEARS else None
