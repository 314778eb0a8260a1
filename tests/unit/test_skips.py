"""What may skip a test: ``./run unit``, and a kernel that cannot do what it is about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import is_there, pytest_runtest_setup

TESTS = Path(__file__).parents[1]
BY_KERNEL = {"faults/cases.py", "mount/test_planes.py"}


class Item:
    """As much of a ``pytest.Item`` as is looked at."""

    def __init__(self, *needed: str, quick: bool) -> None:
        self.config = self
        self.needed, self.quick = needed, quick

    def getoption(self, name: str) -> bool:
        assert name == "quick"
        return self.quick

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [pytest.Mark(name, self.needed, {}, _ispytest=True)]


def set_up(item: Item) -> None:
    pytest_runtest_setup(item)  # type: ignore[arg-type]


def test_the_quick_run_skips_what_needs_an_absent_program() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"libnosuch[.]so[.]9, nosuchprogram"):
        set_up(Item("sh", "nosuchprogram", "libnosuch.so.9", "libc.so.6", quick=True))
    set_up(Item("sh", "libc.so.6", quick=True))


def test_the_full_run_skips_nothing() -> None:
    set_up(Item("nosuchprogram", quick=False))
    assert not is_there("nosuchprogram")


def test_nothing_else_skips() -> None:
    skips = re.compile(r"importorskip|skipif|skipTest|mark\.skip|pytest\.skip\b")
    files = {str(path.relative_to(TESTS)): path for path in TESTS.rglob("*.py")}
    found = {name for name, path in files.items() if skips.search(path.read_text())}
    assert found == {"conftest.py", "unit/test_skips.py"} | BY_KERNEL
