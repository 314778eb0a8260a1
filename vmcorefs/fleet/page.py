"""``index.html``: groups, when, on which kernels and hosts, and the dumps; one file, no network."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

import msgspec

from vmcorefs.fleet.groups import Place
from vmcorefs.fleet.table import Known
from vmcorefs.system.terminal import printable

_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""In JSON these are in strings alone; escaped, nothing in them ends the element that it is in."""
_YEARS: Final = range(1970, 9999)


def make_page(placed: Iterable[tuple[Known, Place]], reports: dict[str, str]) -> str:
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
    page = files("vmcorefs.fleet").joinpath("page.html").read_text("utf-8")
    before, _, after = page.partition("@DATA@")
    nonce = secrets.token_urlsafe(16)
    return before.replace("@NONCE@", nonce) + data + after.replace("@NONCE@", nonce)


def _time(seconds: float | None) -> float | None:
    """Seconds since 1970, if a calendar has them."""
    try:
        year = datetime.fromtimestamp(seconds or 0, UTC).year
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if year in _YEARS else None
