"""One line of ``vmcorefs config check``."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error"]


class Check(msgspec.Struct, frozen=True):
    """What was looked at, and what was found.

    Attributes:
        level: ``error`` if no dump will be saved as the settings say.
        what: One word for what was looked at.
        message: What was found, and what helps.
    """

    level: Level
    what: str
    message: str


def ok(what: str, message: str) -> Check:
    """All is well."""
    return Check("ok", what, message)


def warning(what: str, message: str) -> Check:
    """A person should know; a dump will most likely be saved."""
    return Check("warning", what, message)


def error(what: str, message: str) -> Check:
    """No dump will be saved as the settings say."""
    return Check("error", what, message)
