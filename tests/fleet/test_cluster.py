"""A cluster of Dask's own: its scheduler goes, and comes again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fleet.cluster import cluster, free_port
from tests.fleet.made import variants
from tests.fleet.test_triage import end, rows, start
from tests.fleet.variants import Original
from tests.real.marks import REAL
from vmcorefs.errors import UnsupportedError
from vmcorefs.fleet import engine
from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.one import Limits
from vmcorefs.fleet.table import JOURNAL

pytestmark = REAL


def test_a_scheduler_that_is_restarted(original: Original, tmp_path: Path) -> None:
    dumps, out = tmp_path / "dumps", tmp_path / "out"
    dumps.mkdir()
    for one in variants(6, crashes=2):
        original.make(one, dumps)
    port = free_port()
    with cluster(port) as address:
        process = start(dumps, out, "--scheduler", address)
        while not (out / JOURNAL).exists() or not (out / JOURNAL).stat().st_size:
            assert process.poll() is None
            time.sleep(0.01)
    first = (out / JOURNAL).read_bytes().count(b"\n")
    with cluster(port):
        said, log = end(process)

    assert 0 < first < 6
    assert f"{address}: the scheduler is lost" in log
    assert "6 dumps, 6 opened now, 0 of them not" in said
    assert {row["outcome"] for row in rows(out).values()} == {"ok"}
    assert len(rows(out)) == 6


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PATIENCE", 0.1)
    monkeypatch.setattr(engine, "_CONNECT", 0.5)
    address = f"tcp://127.0.0.1:{free_port()}"
    said: list[str] = []
    with pytest.raises(UnsupportedError, match=f"{address}: no scheduler: "):
        list(engine.run([Dump("x")], Limits(1, 1 << 30), scheduler=address, say=said.append))
    assert said[0].endswith("1 dumps wait for it")
