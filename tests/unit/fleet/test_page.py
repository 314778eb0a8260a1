"""The page: what dumps say is text in it, and nothing else."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser

from vmcorefs.fleet.groups import Crash, Place
from vmcorefs.fleet.page import make_page
from vmcorefs.fleet.table import Known

HOSTILE = '</script><script>alert(1)</script><!--<img src=x onerror="alert(2)">&amp;\u202e\x00'


def known(text: str, time: float | None = 1_790_000_000.0) -> Known:
    crash = Crash(text, text, trusted=True, calls=())
    return Known("k", text, "failed", text, 0, time, text, text, crash)


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


def page_of(*placed: tuple[Known, Place]) -> str:
    return make_page(placed, {"k": "reports/k"}).decode()


def elements(page: str) -> list[str]:
    parser = Elements()
    parser.feed(page)
    return parser.found


def data(page: str) -> dict[str, list[object]]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    read: dict[str, list[object]] = json.loads(found[1])
    return read


def test_a_hostile_text_makes_no_element() -> None:
    harmless = page_of((known("x"), Place("g", "x", "x", "s")))
    page = page_of((known(HOSTILE), Place("g", HOSTILE, HOSTILE, "s")))

    assert elements(page) == elements(harmless)
    assert HOSTILE not in page
    # what is left are characters that are printed, as they were
    assert data(page)["groups"] == [HOSTILE.replace("\u202e", "\\u202e").replace("\x00", "\\x00")]


def test_nothing_is_fetched_and_only_its_own_script_runs() -> None:
    page = page_of()

    assert not re.search(r'(?:src|href)="|url\(|@import|https?://', page)
    assert "default-src 'none'" in unescape(page)


def test_a_time_that_no_calendar_has_is_none() -> None:
    for time in (1e300, float("1e18"), -1.0, None):
        page = page_of((known("x", time), Place("g", "x", "x", "s")))
        (row,) = data(page)["rows"]
        assert isinstance(row, list)
        assert row[3] is None
