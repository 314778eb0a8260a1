"""What the tests of this directory are marked with."""

from __future__ import annotations

from typing import Final

import pytest

REAL: Final = [
    pytest.mark.real,
    pytest.mark.mount,
    pytest.mark.timeout(2400),  # any test may be the first to want a capture
]


def only(*names: str) -> pytest.MarkDecorator:
    """Run a test on these captures alone."""
    return pytest.mark.parametrize("capture", names, indirect=True)


def stopped(*names: str) -> pytest.MarkDecorator:
    """Run a test on these machines, stopped while they ran."""
    return pytest.mark.parametrize("snapshot", names, indirect=True, scope="session")
