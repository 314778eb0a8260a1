"""The page of many dumps in Chromium: ten thousand of them, and such as mean harm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, Page
from tests.browser.fleet import CRASHES, fleet_page

_HOSTILE = (
    "</script><script>window.ran = 1</script>"
    '<img src=http://example.org/x onerror="window.ran = 1">'
    "<!--<script>\u202egnp.exe\x1b[2J\x00 {{x}}"
)
_COUNT = 10_000


@contextmanager
def opened(chromium: Chromium, content: bytes, path: Path) -> Iterator[Page]:
    path.write_bytes(content)
    page = Page(chromium, path, 1280)
    try:
        yield page
    finally:
        page.close()


def rows(page: Page, table: str) -> int:
    count: int = page.value(f"document.querySelectorAll('#{table} tr').length")
    return count


def summary(page: Page) -> str:
    said: str = page.value("document.getElementById('sum').textContent")
    return said


@pytest.fixture(scope="module")
def page(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("page") / "index.html"
    with opened(chromium, fleet_page(_COUNT), path) as one:
        yield one


def test_ten_thousand_dumps_are_shown_by_and_by(page: Page) -> None:
    assert summary(page) == f"{_COUNT} dumps, {CRASHES} groups, 20 not or not wholly read"
    assert (rows(page, "groups"), rows(page, "dumps")) == (50, 50)
    assert page.value("document.querySelector('#groups td.n').textContent") == "34"
    # the newest is the first
    first = page.value("document.querySelector('#dumps a').getAttribute('href')")
    assert first == f"reports/{_COUNT - 1:032x}.html"
    page.value("document.querySelector('#moredumps button').click()")
    assert rows(page, "dumps") == 100
    assert page.complaints == []


def test_a_group_shows_its_dumps_and_words_find_some(page: Page) -> None:
    page.value("document.querySelector('#groups tr').click()")
    assert summary(page).startswith("34 dumps, ")
    assert rows(page, "dumps") == 34
    page.value("document.getElementById('all').click()")
    assert summary(page).startswith(f"{_COUNT} dumps, ")
    page.value(
        "(e => { e.value = 'WEB-005 failed'; e.dispatchEvent(new Event('input')); })"
        "(document.getElementById('find'))"
    )
    # of web-005 each 977th, of those that failed each 500th
    expected = sum(n % 977 == 5 and n % 500 == 0 for n in range(_COUNT))
    assert summary(page).startswith(f"{expected} dumps, ")
    page.value("document.getElementById('all').click()")
    bars = page.value(
        "Array.from(document.querySelectorAll('#kernels .row span'), one => one.textContent)"
    )
    assert bars[-1] == "79 others"
    assert len(bars) == 13


def test_a_hostile_text_is_shown_and_does_nothing(chromium: Chromium, tmp_path: Path) -> None:
    with opened(chromium, fleet_page(600, _HOSTILE), tmp_path / "index.html") as page:
        page.value("document.querySelector('#groups tr').click()")
        assert page.value("window.ran") is None
        assert page.complaints == []
        assert page.requests == [(tmp_path / "index.html").as_uri()]
        shown = page.value("document.querySelector('#groups td').textContent")
        assert shown.endswith("\\u202egnp.exe\\x1b[2J\\x00 {{x}}")
        assert "<script>window.ran = 1</script>" in shown
