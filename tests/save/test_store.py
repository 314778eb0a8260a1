"""A dump in an object store: one that speaks S3, on 127.0.0.1, and one in memory."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import fsspec
import pytest

from tests.builders.tiny_dumps import MEMORY, PAGE, TinyFormat, make_dump
from tests.matching import exactly, same_bytes
from tests.object_store import object_store
from vmcorefs.errors import ConfigError, OutputError, StoppedError, UnsupportedError
from vmcorefs.output.store import StoreTarget
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, Order, save

LOG = b"[    0.000000] Linux version 6.1.0\n"
WHOLE = b"TINY" + MEMORY + b"DONE"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with object_store() as port, pytest.MonkeyPatch.context() as patch:
        options = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "key", "secret": "secret"}
        patch.setitem(fsspec.config.conf, "s3", options)
        store = fsspec.filesystem("s3")
        store.mkdir("crash")
        yield store


@pytest.fixture(params=["s3://crash", "memory://crash"])
def bucket(request: pytest.FixtureRequest, s3: Any) -> Iterator[str]:
    yield request.param
    store, root = fsspec.core.url_to_fs(request.param)
    for name in store.ls(root, detail=False, refresh=True) if store is s3 else store.find(root):
        store.rm(name)


def _save(url: str, write: TinyFormat | None = None, *, force: bool = False) -> Report:
    return save(
        make_dump(),
        LOG,
        Order(url, (0,), "flattened", "none", force=force),
        write or TinyFormat(),
        Console(bar=False, say=None, warn=print),
    )


def _objects(bucket: str) -> dict[str, bytes]:
    store, root = fsspec.core.url_to_fs(bucket)
    store.invalidate_cache()
    return {name.rpartition("/")[2]: store.cat_file(name) for name in store.find(root)}


def test_a_dump_and_its_log_arrive(bucket: str) -> None:
    report = _save(f"{bucket}/vmcore")
    assert _objects(bucket) == {"vmcore": WHOLE, "vmcore-dmesg.txt": LOG}
    assert report.sha256 == (hashlib.sha256(WHOLE).hexdigest(),)


def test_what_is_there_is_replaced_only_if_forced(bucket: str) -> None:
    url = f"{bucket}/vmcore"
    fsspec.open(url, "wb").open().close()
    with pytest.raises(
        ConfigError, match=exactly(f"{url}: exists already; pass --force to replace it")
    ):
        _save(url)
    assert _objects(bucket) == {"vmcore": b""}
    _save(url, force=True)
    same_bytes(_objects(bucket)["vmcore"], WHOLE)


def test_a_signal_leaves_no_complete_name(bucket: str) -> None:
    def send(page: int) -> None:
        if page == 16:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="after 15 of 64 pages"):
        _save(f"{bucket}/vmcore", TinyFormat(send))
    assert _objects(bucket) == {
        "vmcore-dmesg.txt": LOG,
        "vmcore.incomplete": b"TINY" + MEMORY[: 16 * PAGE],
    }
    with pytest.raises(ConfigError, match=r"vmcore\.incomplete: an earlier try has left it"):
        _save(f"{bucket}/vmcore")


def test_no_message_has_the_password_of_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    url = "memory://me:hunter22@crash/vmcore"

    def stop(page: int) -> None:
        if page == 16:
            os.kill(os.getpid(), signal.SIGTERM)

    said = []
    with pytest.raises(StoppedError, match=r"the name memory://me:\*\*\*@crash/vmcore") as stopped:
        _save(url, TinyFormat(stop))
    with pytest.raises(ConfigError, match="an earlier try has left it") as left:
        _save(url)
    report = _save(url, force=True)
    assert report.names == ("memory://me:***@crash/vmcore",)
    with pytest.raises(ConfigError, match="exists already") as exists:
        _save(url)
    with pytest.raises(UnsupportedError, match="nosuch") as unknown:
        _save("nosuch://me:hunter22@crash/vmcore")
    said += [str(one.value) for one in (stopped, left, exists, unknown)]
    said += [*capsys.readouterr(), *report.names, *report.warnings, report.log or ""]
    assert not any("hunter22" in one for one in said)
    fsspec.filesystem("memory").rm("/me:hunter22@crash", recursive=True)


def test_an_upload_in_parts_is_called_off_when_the_saver_fails(s3: Any) -> None:
    """A file object that nobody ended would send the rest when it goes, as if it were all."""
    target = StoreTarget("s3://crash/vmcore", force=False)
    target.pwrite(bytes(9 << 20), 0)  # more than one part: the upload has begun
    target.close()
    del target
    assert _objects("s3://crash") == {}
    assert s3.call_s3("list_multipart_uploads", Bucket="crash").get("Uploads", []) == []


def test_many_parts_are_one_file() -> None:
    with closing(StoreTarget("memory://x/vmcore", force=True)) as target:
        for number in range(20):
            target.pwrite(bytes([number]) * 1000, number * 1000)
        target.sync()
        target.publish()
    assert _objects("memory://x")["vmcore"] == b"".join(bytes([n]) * 1000 for n in range(20))


def test_what_the_store_says_is_passed_on(s3: Any) -> None:
    with pytest.raises(OutputError, match=r"^s3://nowhere/vmcore-dmesg.txt: .*bucket"):
        _save("s3://nowhere/vmcore")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/vmcore", "fsspec can read there, but not write"),
        ("gopher://host/vmcore", "Protocol not known: gopher"),
    ],
)
def test_what_cannot_be_written_is_refused(url: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"^{url}: .*{words}"):
        StoreTarget(url, force=False)


def test_without_fsspec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(
        UnsupportedError,
        match=exactly(
            "s3://b/k: needs fsspec; install vmcorefs[remote], and fsspec's package for this store"
        ),
    ):
        StoreTarget("s3://b/k", force=False)
