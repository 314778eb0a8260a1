"""Dumps in a store, opened by workers on networks of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.fleet.cluster import Worker, cluster, free_port
from tests.fleet.made import title_of, variants
from tests.fleet.networks import networks
from tests.fleet.test_triage import rows, run
from tests.fleet.variants import Original
from tests.object_store import object_store
from tests.real.marks import REAL

pytestmark = REAL

_ACCESS = {"FSSPEC_S3_KEY": "key", "FSSPEC_S3_SECRET": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def _environment(host: str, port: int) -> dict[str, str]:
    return _ACCESS | {"FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}"}


@pytest.fixture
def port() -> Iterator[int]:
    """Of something that speaks S3, on every address."""
    with object_store("0.0.0.0") as number:  # noqa: S104
        yield number


def test_workers_on_networks_of_their_own_read_a_store(
    port: int, original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _environment("127.0.0.1", port).items():
        monkeypatch.setenv(name, value)
    store = fsspec.filesystem(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        key="key",
        secret="secret",  # noqa: S106
    )
    store.mkdir("crashes")
    made = list(variants(4, crashes=2))
    for one in made:
        path = original.make(one, tmp_path)
        store.put_file(str(path), f"crashes/{one.host}/{one.name}")
        path.unlink()
    store.pipe("crashes/cut", original.data[:1000])

    with networks(2) as found:
        workers = [Worker(one.host, one.within, _environment(one.host, port)) for one in found]
        with cluster(free_port(), workers) as address:
            said, log = run("s3://crashes", tmp_path / "out", "--scheduler", address)
    read = rows(tmp_path / "out")

    assert "5 dumps, 5 opened now, 1 of them not or not wholly read" in said
    assert log.startswith("vmcorefs: s3://crashes/cut: failed: ")
    assert read["cut"]["outcome"] == "failed"
    for one in made:
        row = read[one.name]
        assert (row["outcome"], row["crash_title"]) == ("ok", title_of(one))
        assert row["died_host"] == one.host
        assert row["etag"] != ""
        assert row["dump"] == f"s3://crashes/{one.host}/{one.name}"
