"""What all tests share: hypothesis' profiles, and opening a capture that is closed at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings

import vmcorefs
from vmcorefs import Capture

settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

Opener = Callable[..., Capture]


@pytest.fixture
def open_capture() -> Iterator[Opener]:
    """``vmcorefs.open``, and every capture that a test opens with it is closed behind the test."""
    with ExitStack() as stack:

        def opener(*args: Any, **options: Any) -> Capture:
            return stack.enter_context(vmcorefs.open(*args, **options))

        yield opener
