"""Images at the other end of a long link, which is cut in the middle, and mended."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.matching import same_bytes
from tests.remote.link import Link, inside, long_link
from tests.remote.nginx import nginx
from tests.remote.test_remote import read
from tests.save.sshd import serve
from tests.waiting import running, wait_for
from vmcorefs import SourceIOError
from vmcorefs.sources.remote.file import RemoteFile

DATA = random.Random(6).randbytes(8 << 20)  # noqa: S311
PATIENCE = 4.0


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    with long_link() as made, inside(made.here):
        yield made


@pytest.fixture(params=["nginx", "s3", "ssh"])
def url(
    request: pytest.FixtureRequest, link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A URL of the data, at the other end."""
    path = tmp_path / "www" / "image"
    path.parent.mkdir()
    path.write_bytes(DATA)
    with ExitStack() as stack:
        stack.enter_context(inside(link.there))
        if request.param == "nginx":
            server = stack.enter_context(nginx(path.parent, tmp_path / "nginx", link.address))
            found = f"{server.url}/image"
        elif request.param == "ssh":
            sshd = stack.enter_context(serve(tmp_path, link.address))
            monkeypatch.setenv("PATH", sshd.path)
            found = f"ssh://there{path}"
        else:
            store = stack.enter_context(_object_store(link.address, path))
            found = "s3://crash/image"
            monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", store)
            monkeypatch.setenv("FSSPEC_S3_KEY", "key")
            monkeypatch.setenv("FSSPEC_S3_SECRET", "secret")
        with inside(link.here):
            yield found


@contextmanager
def _object_store(address: str, path: Path) -> Iterator[str]:
    """A store that speaks S3, as a process, with the file in it; the URL to ask."""
    command = [sys.executable, "-m", "tests.object_store", address, str(path)]
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


def test_a_link_that_is_cut_is_an_error_and_a_mended_one_is_read(link: Link, url: str) -> None:
    file = RemoteFile(url, role="image", timeout=PATIENCE)
    try:
        same_bytes(read(file, 0, 100_000), DATA[:100_000])
        link.cut()
        begun = time.monotonic()
        with pytest.raises(SourceIOError, match=r"cannot read 16384 bytes at offset 0x100000: "):
            read(file, 1 << 20, 4096)
        assert time.monotonic() - begun < 2 * PATIENCE
        same_bytes(read(file, 0, 100_000), DATA[:100_000])  # it is kept
        time.sleep(10)  # long enough for the other side to give up
        link.mend()
        wait_for(lambda: _is_read(file), "bytes over the mended link")
        same_bytes(read(file, 0, len(DATA)), DATA)
    finally:
        link.mend()
        file.close()


def _is_read(file: RemoteFile) -> bool:
    try:
        return read(file, 1 << 20, 4096) == DATA[1 << 20 :][:4096]
    except SourceIOError:
        return False
