"""``vmcorefs config check``: everything that can be found out before the panic.

A check looks at one thing on the healthy system and says a line about it: ok, a warning (a dump
will most likely be saved all the same), or an error (it will not).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from vmcorefs.capture.prepare.check_system import check_system
from vmcorefs.capture.prepare.check_target import check_target
from vmcorefs.capture.prepare.report import Check, error, ok
from vmcorefs.capture.settings import load_settings
from vmcorefs.errors import VmcorefsError


def check_all(path: str) -> list[Check]:
    """Check the settings in ``path``, and this system against them.

    Nothing here raises: what goes wrong within a check is that check's error.
    """
    try:
        settings = load_settings(path)
    except VmcorefsError as problem:
        return [error("settings", str(problem))]
    there = os.path.exists(path)
    said = "every key and value is known" if there else "not there, so the defaults hold"
    checks = [ok("settings", f"{path}: {said}")]
    for what, part in (("target", check_target), ("system", check_system)):
        try:
            checks.extend(part(settings))
        except (VmcorefsError, OSError) as problem:
            checks.append(error(what, str(problem)))
    return checks


def format_checks(checks: Iterable[Check]) -> list[str]:
    """The checks for a person, a line each."""
    return [f"{check.level:<8}{check.what:<13}{check.message}" for check in checks]


def has_error(checks: Iterable[Check]) -> bool:
    """Whether any of them is an error."""
    return any(check.level == "error" for check in checks)
