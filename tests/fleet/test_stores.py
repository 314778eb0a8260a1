"""Dumps in a store, opened by workers on networks of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.fleet.cluster import Worker, cluster, free_port
from tests.fleet.made import title_of, variants
from tests.fleet.networks import networks
from tests.fleet.processes import is_running, worker_in
from tests.fleet.test_triage import end, rows, run, start
from tests.fleet.variants import Original, Variant
from tests.object_store import object_store
from tests.real.marks import REAL
from tests.waiting import wait_for
from vmcorefs.fleet.table import JOURNAL

pytestmark = REAL

_ACCESS = {"FSSPEC_S3_KEY": "key", "FSSPEC_S3_SECRET": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def _environment(host: str, port: int) -> dict[str, str]:
    return _ACCESS | {"FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}"}


@pytest.fixture
def port() -> Iterator[int]:
    """Of something that speaks S3, on every address."""
    with object_store("0.0.0.0") as number:  # noqa: S104
        yield number


def _fill(port: int, original: Original, made: list[Variant], beside: Path) -> None:
    """Put variants into the bucket ``crashes``, and a dump that is cut."""
    store = fsspec.filesystem(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        key="key",
        secret="secret",  # noqa: S106
    )
    store.mkdir("crashes")
    for one in made:
        path = original.make(one, beside)
        store.put_file(str(path), f"crashes/{one.host}/{one.name}")
        path.unlink()
    store.pipe("crashes/cut", original.data[:1000])


def _check(out: Path, made: list[Variant]) -> None:
    read = rows(out)
    assert read.keys() == {"cut", *(one.name for one in made)}
    assert read["cut"]["outcome"] == "failed"
    for one in made:
        row = read[one.name]
        assert (row["outcome"], row["crash_title"]) == ("ok", title_of(one))
        assert row["died_host"] == one.host
        assert row["etag"] != ""
        assert row["dump"] == f"s3://crashes/{one.host}/{one.name}"


def test_workers_on_networks_of_their_own_read_a_store(
    port: int, original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _environment("127.0.0.1", port).items():
        monkeypatch.setenv(name, value)
    made = list(variants(4, crashes=2))
    _fill(port, original, made, tmp_path)

    with networks(2) as found:
        workers = [Worker(one.host, one.within, _environment(one.host, port)) for one in found]
        with cluster(free_port(), workers) as address:
            said, log = run("s3://crashes", tmp_path / "out", "--scheduler", address)

    assert "5 dumps, 5 opened now, 1 of them not or not wholly read" in said
    assert log.startswith("vmcorefs: s3://crashes/cut: failed: ")
    _check(tmp_path / "out", made)


def test_both_workers_are_killed_and_the_scheduler_is_restarted(
    port: int, original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _environment("127.0.0.1", port).items():
        monkeypatch.setenv(name, value)
    made, out = list(variants(9, crashes=2)), tmp_path / "out"
    _fill(port, original, made, tmp_path)
    number = free_port()

    def count() -> int:
        return (out / JOURNAL).read_bytes().count(b"\n")

    with networks(2) as found:
        workers = [
            Worker(one.host, one.within, _environment(one.host, port), nanny=True) for one in found
        ]
        with cluster(number, workers) as address:
            process = start("s3://crashes", out, "--scheduler", address)
            for network in found:
                killed = worker_in(network.name)
                os.kill(killed, signal.SIGKILL)
                wait_for(lambda: not is_running(killed), "its end")  # noqa: B023  # at once
            before = count()
            for network in found:  # both are there again
                worker_in(network.name)
            wait_for(lambda: count() > before, "a row")
            first = count()
        with cluster(number, workers):
            said, log = end(process)

    assert 0 < first < 10
    assert f"{address}: the scheduler is lost" in log
    assert "10 dumps, 10 opened now, 1 of them not" in said
    _check(out, made)
