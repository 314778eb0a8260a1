"""URLs: what they lead to, and how they may be shown: without what lets others in."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote, urlsplit

HIDDEN: Final = "***"
"""What stands for a secret."""

_SECRET: Final = re.compile(
    r"((?:^|[&;?])[^=&;?]*(?:sig|token|secret|passw|credential|key|auth)[^=&;?]*=)[^&;]*",
    re.IGNORECASE,
)
"""A parameter of a signed URL: X-Amz-Signature, X-Goog-Credential, Azure's sig, and the like."""

_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE | re.ASCII)

LOCAL: Final = frozenset({"file", "local"})
"""Schemes of files of this machine."""


def scheme_of(place: str) -> str | None:
    """The scheme of a URL, in lower case; None for anything else."""
    match = _URL.match(place)
    return match[1].lower() if match is not None else None


def is_elsewhere(path: str) -> bool:
    """Whether a path is the URL of something that is no file of this machine."""
    return scheme_of(path) not in {None, *LOCAL} and not os.path.lexists(path)


def without_password(url: str) -> str:
    """A URL, or a path, as it may be shown: passwords, signatures and tokens are hidden."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # no address of a machine
        return re.sub(r"//[^/]*@", f"//{HIDDEN}@", url)
    query = _SECRET.sub(rf"\1{HIDDEN}", parts.query)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return url.replace(
        f"//{parts.netloc}", f"//{name}{colon}{HIDDEN if colon else ''}{at}{host}", 1
    ).replace(f"?{parts.query}", f"?{query}", 1)


def hide(text: str, url: str) -> str:
    """A text of another program about a URL, without what that must not show."""
    text = text.replace(url, without_password(url))
    for secret in _secrets_of(url):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets_of(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found = [match[0][len(match[1]) :] for match in _SECRET.finditer(parts.query)]
    found += [parts.password] if parts.password else []
    quoted = [*found, *map(unquote, found)]
    return sorted({one for one in quoted if len(one) > 3}, key=len, reverse=True)
