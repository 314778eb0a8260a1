"""A page that is one file: it loads nothing, and runs nothing but its own script."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Final

from vmcorefs.reports.report.html.markup import Markup, tag

_META: Final = {
    "viewport": "width=device-width",
    "color-scheme": "light dark",
    "referrer": "no-referrer",
}


def document(title: str, package: str, *body: str) -> bytes:
    """A page, in UTF-8.

    Args:
        title: Of the window.
        package: Where its ``style.css`` and ``script.js`` are.
        body: Its elements.
    """
    style, script = (
        Markup(files(package).joinpath(part).read_text("utf-8"))
        for part in ("style.css", "script.js")
    )
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        *(tag("meta", name_=key, content=value) for key, value in _META.items()),
    )
    made = tag(
        "html",
        tag("head", *head, tag("title", title), tag("style", style)),
        tag("body", tag("main", *body), tag("script", script)),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{made}\n".encode()


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy: these two parts alone, by their digests."""
    styles, scripts = (
        f"'sha256-{b64encode(sha256(part.encode()).digest()).decode()}'" for part in (style, script)
    )
    return (
        f"default-src 'none'; style-src {styles}; script-src {scripts};"
        " base-uri 'none'; form-action 'none'"
    )
