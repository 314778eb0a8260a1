"""What opens an input of a kind is imported when there is one: most kinds are not there."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def find(name: str) -> Any:  # noqa: ANN401  # functions of different kinds
    """Import a function of this package.

    Args:
        name: ``MODULE.FUNCTION``, without the package's own name.
    """
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"vmcorefs.sources.{module}"), function)
