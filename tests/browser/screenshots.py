"""Run as ``python -m tests.browser.screenshots REPORT.html DIRECTORY``: the pictures of docs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser.chromium import Chromium, Page

_SHOTS = (
    ("report-page.png", 1100, "body", False),
    ("report-memory.png", 1100, "#memory", True),
    ("report-phone.png", 380, "#cpus", False),
)
"""A file, the width of the window, what is at its top, and whether it is dark."""


def main(page: str, directory: str) -> None:
    with tempfile.TemporaryDirectory() as profile, Chromium(Path(profile)) as browser:
        for file, width, top, dark in _SHOTS:
            shot = Page(browser, Path(page).absolute(), width, dark=dark)
            shot.value(f"document.querySelector('{top}').scrollIntoView()")
            shot.screenshot(Path(directory) / file)
            shot.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
