"""One capture, made small, for all tests here."""

from __future__ import annotations

import faulthandler

import pytest

from tests.fleet.variants import Original, make_original
from tests.lab.capture import cached_capture
from tests.real.conftest import RECIPES


@pytest.fixture(scope="session")
def original() -> Original:
    faulthandler.cancel_dump_traceback_later()  # a capture takes minutes, and is no hang
    return make_original(cached_capture(RECIPES["kexec"]).vmcore)
