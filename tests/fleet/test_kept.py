"""What dumps of one kernel have in common is made once, and makes no difference to what is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.fleet.made import variants
from tests.fleet.variants import Original
from tests.real.marks import REAL
from vmcorefs.core import made_before
from vmcorefs.core.made_before import keep
from vmcorefs.fleet.child import open_dump
from vmcorefs.fleet.row import Answer

pytestmark = REAL


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    made_before._keepers.clear()


def _open(path: Path) -> Answer:
    return replace(open_dump(str(path)), peak=None)


def test_another_dump_of_a_kernel_says_the_same_with_what_was_kept(
    original: Original, tmp_path: Path
) -> None:
    one, other = (original.make(each, tmp_path) for each in variants(2, crashes=2))
    anew = _open(other)
    first = keep({})
    _open(one)
    second = keep(first.now)
    kept = _open(other)

    assert kept == anew
    assert kept.outcome == "ok"
    assert first.now
    assert not second.now  # nothing had to be made


def test_a_dump_whose_types_differ_has_none_of_anothers(original: Original, tmp_path: Path) -> None:
    (made,) = variants(1, crashes=1)
    path = original.make(made, tmp_path)
    first = keep({})
    intact = _open(path)
    path.write_bytes(path.read_bytes().replace(b"\0task_struct\0", b"\0gone_struct\0"))
    made_before._keepers.clear()
    anew = _open(path)
    keep(first.now)

    assert _open(path) == anew
    assert anew != intact
