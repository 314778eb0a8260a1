"""Titles alike for alike crashes: without what differs from one machine and run to the next."""

from __future__ import annotations

import re
from typing import Final

MAX_TITLE: Final = 120
"""Characters; lines that have run into one another would have more."""

_CHANGES: Final = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        (r"syz-executor\.?\d+(?:[/:]\d+)?", "syz-executor"),
        (r"syzkaller\d+(?:[/:]\d+)?", "syzkaller"),
        (r"([^a-zA-Z0-9])(?:0x)?[0-9a-f]{6,}", r"\1ADDR"),
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", "IP"),
        (r"(\.\w+)(?::\d+)+", r"\1:LINE"),
        (r"(?<=[a-zA-Z0-9_.])\+0x[0-9a-z]+/0x[0-9a-z]+", ""),  # of FUNCTION+OFFSET/SIZE
        (r"CPU#\d+", "CPU"),
        (r"(\W)\d+(?!\w)", r"\1NUM"),
        (r"\d{7,}", "NUM"),  # fewer may be of a name, such as cfg80211
    )
)


def unify(title: str) -> str:
    """Replace addresses, numbers and the like in a title, and cut it to length."""
    for pattern, replacement in _CHANGES:
        title = pattern.sub(replacement, title)
    title = "".join(one for one in title.replace("\t", " ") if " " <= one < "\x7f")
    return re.sub(" +", " ", title[:MAX_TITLE]).strip()
