"""How much of a dump elsewhere is moved for its row, counted where it is."""

from __future__ import annotations

from mmap import ACCESS_READ, mmap

import msgspec

from tests.fleet.variants import Original
from tests.lab.capture import cached_capture
from tests.real.conftest import RECIPES
from tests.real.marks import REAL
from tests.remote.servers import serving
from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.one import Limits, triage_dump
from vmcorefs.fleet.row import Row

pytestmark = REAL


def test_little_more_is_moved_than_a_report_reads(original: Original) -> None:
    vmcore = cached_capture(RECIPES["kexec"]).vmcore
    size = vmcore.stat().st_size
    with vmcore.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        with serving(data) as web:
            web.has_tags = False  # it would read all of it for one
            opened = triage_dump(Dump(web.url, size), Limits(300, 2 << 30))
        moved = web.moved
    row = msgspec.json.decode(opened.row, type=Row)

    assert (row.outcome, row.reason) == ("ok", "")
    assert size > 800 << 20
    # those are its pages, and room for headers
    assert moved < 1.25 * len(original.data) < size / 40
