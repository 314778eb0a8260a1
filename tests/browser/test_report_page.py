"""The page of a report in Chromium: of an ordinary machine, and of one that means harm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.browser.chromium import Chromium, Page
from tests.unit.reports.report.test_text import REPORT
from vmcorefs.core.maps.memory_map import make_memory_map
from vmcorefs.core.maps.regions import Region
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.reports.report.html.memory_map import Places
from vmcorefs.reports.report.html.page import Shown, make_page
from vmcorefs.reports.report.schema import Report, Thread

_HOSTILE = (
    "</script></style></title><script>window.ran = 1</script>"
    '"><img src=http://example.org/x onerror="window.ran = 1">'
    "\u202egnp.exe\x1b[2J\x00\u05d0\u05d1 {{x}} " + "A" * 4096
)
_LOG = b"".join(b"[%5d.0] line %d\n" % (n, n) for n in range(500)) + b"[  500.0] WARNING: last\n"
_WIDTHS = (380, 768, 1280)
_NAMES = """
    Array.from(document.querySelectorAll("#threads tbody tr:not([hidden])"))
        .map(row => row.cells[2].textContent)
"""
_OVERLAPPING = """
    Array.from(document.querySelectorAll("section"), one => one.getBoundingClientRect())
        .filter((box, number, all) => number && box.top < all[number - 1].bottom)
"""
_TOO_WIDE = """
    Array.from(document.querySelectorAll("h1, h2, h3, p, dd, dt, li, pre, svg, article, .wide"))
        .filter(one => !one.closest(".wide"))
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
        .map(one => one.outerHTML.slice(0, 99))
"""


def _threads() -> list[Thread]:
    names = ("init", "kthreadd", "sshd", "backup", "sshd")
    times = (3.5, 100.0, None, 20.25, 0.125)
    return [
        Thread(pid, pid, comm, "D" if comm == "backup" else "S", cpu=pid % 2, seconds=seconds)
        for pid, (comm, seconds) in enumerate(zip(names, times, strict=True), 9)
    ]


def _shown(name: str = "PCI Bus 0000:00", log: bytes = _LOG) -> Shown:
    regions = [
        Region(0, 1 << 30, "System RAM"),
        Region(1 << 24, 1 << 25, "Kernel code", 1),
        Region(3 << 30, 4 << 30, name),
    ]
    backup, kernel = make_ranges([(0, 0x9FC00)]), make_ranges([(1 << 24, 1 << 25)])
    return Shown(Places(make_memory_map(regions, "iomem"), make_ranges([]), backup, kernel), log)


def _spoil(value: Any) -> Any:
    """Every text of a report replaced by one that means harm."""
    if isinstance(value, str):
        return _HOSTILE
    if isinstance(value, list):
        return [_spoil(one) for one in value]
    if isinstance(value, dict):
        return {key: _spoil(one) for key, one in value.items()}
    return value


@pytest.fixture
def ordinary(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_bytes(make_page(replace(REPORT, threads=_threads()), _shown()))
    return path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    report = msgspec.convert(_spoil(msgspec.to_builtins(REPORT)), Report)
    log = (_HOSTILE.encode() + b"\n") * 3
    path.write_bytes(make_page(report, _shown(_HOSTILE, log)))
    return path


@contextmanager
def _opened(
    browser: Chromium, path: Path, width: int = 1280, *, dark: bool = False
) -> Iterator[Page]:
    page = Page(browser, path, width, dark=dark)
    yield page
    page.close()


def _check_layout(page: Page) -> None:
    """Nothing is wider than the window, and nothing lies over what follows it."""
    root = "document.documentElement"
    assert page.value(f"{root}.scrollWidth <= {root}.clientWidth")
    assert page.value(_OVERLAPPING) == []
    assert page.value(_TOO_WIDE) == []


@pytest.mark.parametrize("width", _WIDTHS)
def test_it_fits_and_loads_nothing(chromium: Chromium, ordinary: Path, width: int) -> None:
    with _opened(chromium, ordinary, width) as page:
        _check_layout(page)
        assert page.requests == [ordinary.as_uri()]
        assert page.complaints == []


@pytest.mark.parametrize("width", _WIDTHS)
def test_what_means_harm_is_text(chromium: Chromium, hostile: Path, width: int) -> None:
    with _opened(chromium, hostile, width) as page:
        _check_layout(page)
        assert page.value("window.ran") is None
        assert page.value("document.scripts.length") == 1
        assert page.value("document.images.length") == 0
        assert page.value("document.querySelectorAll('section').length") == 9
        said = page.value("document.documentElement.textContent")
        assert "<script>window.ran = 1</script>" in said
        assert r"\u202egnp.exe\x1b[2J\x00" in said
        assert not set("\u202e\x1b\x00") & set(said)
        assert page.requests == [hostile.as_uri()]
        assert page.complaints == []


def test_a_script_that_is_not_the_page_s_is_refused(chromium: Chromium, ordinary: Path) -> None:
    """The second line of defence: even where something were not escaped."""
    with _opened(chromium, ordinary) as page:
        page.value(
            """const one = document.createElement("script"); one.textContent = "window.ran = 1";
            document.body.append(one);
            const two = new Image(); two.src = "http://127.0.0.1:9/x"; document.body.append(two);
            document.body.setAttribute("onclick", "window.ran = 1"); document.body.click()"""
        )
        assert page.value("window.ran") is None
        assert page.value("getComputedStyle(document.body).marginTop") == "0px"
        assert len([one for one in page.complaints if "Content Security Policy" in one]) >= 3
        assert page.refused == ["csp"]


def test_search(chromium: Chromium, ordinary: Path) -> None:
    with _opened(chromium, ordinary) as page:
        assert len(page.value(_NAMES)) == 5
        for words, found in (
            ("SSH", ["sshd", "sshd"]),
            ("13 sshd", ["sshd"]),
            ("blocked", ["backup"]),
            ("nobody", []),
            ("", ["backup", "init", "kthreadd", "sshd", "sshd"]),
        ):
            page.value(
                f"""var input = document.querySelector("input"); input.value = "{words}";
                input.dispatchEvent(new Event("input"))"""
            )
            assert page.value(_NAMES) == found
            assert page.value("document.querySelector('output').value") == f"{len(found)} shown"


def test_sort(chromium: Chromium, ordinary: Path) -> None:
    column = "document.querySelectorAll('#threads th')[%d]"
    with _opened(chromium, ordinary) as page:
        page.value(f"{column % 2}.querySelector('button').click()")
        assert page.value(_NAMES) == ["backup", "init", "kthreadd", "sshd", "sshd"]
        assert page.value(f"{column % 2}.ariaSort") == "ascending"
        page.value(f"{column % 2}.querySelector('button').click()")
        assert page.value(_NAMES) == ["sshd", "sshd", "kthreadd", "init", "backup"]
        # by seconds, not by how they are written; what is not known comes last
        page.value(f"{column % 5}.querySelector('button').click()")
        assert page.value(_NAMES) == ["sshd", "init", "backup", "kthreadd", "sshd"]
        page.value(f"{column % 5}.querySelector('button').click()")
        assert page.value(_NAMES) == ["kthreadd", "backup", "init", "sshd", "sshd"]
        assert page.value(f"{column % 2}.ariaSort") is None


def test_the_end_of_the_log_is_in_view(chromium: Chromium, ordinary: Path) -> None:
    with _opened(chromium, ordinary) as page:
        last = "document.querySelector('.log mark').getBoundingClientRect()"
        box = "document.querySelector('.log').getBoundingClientRect()"
        assert page.value(f"{last}.bottom <= {box}.bottom && {last}.top >= {box}.top")
        assert page.value("document.querySelector('.log').scrollHeight") > 2 * page.value(
            f"{box}.height"
        )


def test_light_and_dark(chromium: Chromium, ordinary: Path) -> None:
    seen = []
    for dark in (False, True):
        with _opened(chromium, ordinary, dark=dark) as page:
            style = "getComputedStyle(document.body)"
            colours = page.value(f"[{style}.backgroundColor, {style}.color]")
            seen.append([sum(map(int, re.findall(r"\d+", one)[:3])) for one in colours])
    (light_page, light_ink), (dark_page, dark_ink) = seen
    assert light_page - light_ink > 450
    assert dark_ink - dark_page > 450


def test_paper_gets_what_can_be_read_there(chromium: Chromium, ordinary: Path) -> None:
    with _opened(chromium, ordinary, 794) as page:  # A4 at 96 dpi
        assert page.pdf().startswith(b"%PDF-")
        page.on_paper()
        _check_layout(page)
        shown = "getComputedStyle(document.querySelector('%s')).display != 'none'"
        for one in ("nav", ".search", "tr.asleep", ".on-screen"):
            assert not page.value(shown % one)
        for one in ("tr.blocked", ".on-paper", ".log mark"):
            assert page.value(shown % one)
        # no box that would have to be scrolled
        assert page.value("document.querySelector('.log').clientHeight") >= page.value(
            "document.querySelector('.log pre').clientHeight"
        )


def test_paper_takes_a_few_pages(chromium: Chromium, ordinary: Path) -> None:
    with _opened(chromium, ordinary) as page:
        assert 1 <= len(re.findall(rb"/Type */Page\b", page.pdf())) <= 6


def test_without_scripts_the_page_is_whole(chromium: Chromium, ordinary: Path) -> None:
    with _opened(chromium, ordinary) as page:
        page.without_scripts()
        assert page.value("document.querySelector('.search').hidden") is True
        assert page.value("document.querySelectorAll('#threads tbody tr').length") == 5
        assert page.value("document.querySelectorAll('th button').length") == 0
