"""What the tests of this directory are marked with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.boot.crashes import Outcome
    from tests.boot.machine import Machine

BOOT: Final = [
    pytest.mark.boot,
    pytest.mark.timeout(3600),  # any test may be the first to want the disk
]


def looks_at(crash: Callable[[Machine], Outcome]) -> pytest.MarkDecorator:
    """Mark a test of what came of a crash."""
    return pytest.mark.crash.with_args(crash)
