"""Images elsewhere: web servers, a store that speaks S3, an sshd and an nbdkit, all here."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.builders.dead_machines import dead_machine
from tests.builders.elf_dumps import pack_dump
from tests.builders.packed import gzip_member
from tests.conftest import Opener
from tests.matching import exactly, same_bytes
from tests.object_store import object_store
from tests.remote.nbd import give_libnbd, nbd_url, nbdkit
from tests.remote.nginx import nginx
from tests.remote.servers import Server, serving
from tests.save.sshd import serve
from tests.waiting import wait_for
from vmcorefs import ConfigError, Piece, SourceIOError, UnsupportedError
from vmcorefs.core.digests import Digest
from vmcorefs.piece import parse_piece
from vmcorefs.reports.inspect import make_report
from vmcorefs.reports.verify import verify
from vmcorefs.sources.remote import file as module
from vmcorefs.sources.remote.file import RemoteFile

DATA = random.Random(5).randbytes(3 << 20)  # noqa: S311
OTHER = bytes(len(DATA))
PATIENCE = 20.0


def read(file: RemoteFile, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    file.pread_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.fixture
def web() -> Iterator[Server]:
    with serving(DATA) as server:
        yield server


@pytest.fixture
def opened() -> Iterator[Callable[..., RemoteFile]]:
    files: list[RemoteFile] = []

    def open_file(url: str, timeout: float = PATIENCE) -> RemoteFile:
        files.append(RemoteFile(url, role="image", timeout=timeout))
        return files[-1]

    yield open_file
    for file in files:
        file.close()


Open = Callable[..., RemoteFile]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A store; the process that fetches finds its credentials where fsspec's users keep them."""
    with object_store() as port, pytest.MonkeyPatch.context() as patch:
        options = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "key", "secret": "secret"}
        store = fsspec.filesystem("s3", **options)
        store.mkdir("crash")
        for name, value in options.items():
            patch.setenv(f"FSSPEC_S3_{name.upper()}", value)
        yield store


@pytest.fixture(params=["http", "nginx", "s3", "ssh"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Callable[[bytes], None]]]:
    """A URL of the data, and what replaces the object there."""
    if request.param == "http":
        with serving(DATA) as web:
            yield web.url, lambda data: setattr(web, "data", data)
    elif request.param == "nginx":
        path = tmp_path / "www" / "image"
        path.parent.mkdir()
        path.write_bytes(DATA)
        with nginx(path.parent, tmp_path / "nginx") as server:
            yield f"{server.url}/image", lambda data: _write(path, data)
    elif request.param == "s3":
        store = request.getfixturevalue("bucket")
        store.pipe("crash/image", DATA)
        yield "s3://crash/image", lambda data: store.pipe("crash/image", data)
    else:
        path = tmp_path / "image"
        path.write_bytes(DATA)
        with serve(tmp_path) as sshd:
            monkeypatch.setenv("PATH", sshd.path)
            yield f"ssh://there{path}", lambda data: _write(path, data)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def test_its_bytes_are_read_in_any_order(
    place: tuple[str, Callable[[bytes], None]], opened: Open
) -> None:
    file = opened(place[0])
    assert (file.name, file.size) == (place[0], len(DATA))
    rng = random.Random(1)  # noqa: S311
    for size in (1, 4096, 100_000, 1 << 20, *[4096] * 10):
        offset = rng.randrange(len(DATA) - size)
        same_bytes(read(file, offset, size), DATA[offset : offset + size])
    same_bytes(read(file, 0, len(DATA)), DATA)
    with pytest.raises(SourceIOError, match=f"it has {len(DATA)} bytes"):
        read(file, len(DATA), 1)


def test_an_object_that_is_replaced_is_an_error(
    place: tuple[str, Callable[[bytes], None]], opened: Open
) -> None:
    url, replace = place
    file = opened(url)
    same_bytes(read(file, 0, 4096), DATA[:4096])
    assert file.identity_now == file.identity
    # sftp has whole seconds, and the ETags of nginx are made of the size and of these
    time.sleep(0 if url.endswith("crash/image") else 1.1)
    replace(OTHER)
    with pytest.raises(SourceIOError, match="it has changed since it was opened: open it again"):
        read(file, 1 << 20, 4096)
    assert file.identity_now != file.identity
    same_bytes(read(file, 0, 4096), DATA[:4096])  # of before
    same_bytes(read(opened(url), 1 << 20, 4096), OTHER[:4096])


def test_an_export_of_an_nbd_server(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, socket = tmp_path / "image", tmp_path / "socket"
    path.write_bytes(DATA)
    with pytest.raises(UnsupportedError, match=r"needs libnbd for this Python; .*python3-libnbd"):
        opened(nbd_url(socket))
    give_libnbd(tmp_path / "libnbd", monkeypatch)
    with pytest.raises(ConfigError, match=r"cannot open the image: .*No such file"):
        opened(nbd_url(socket))
    with nbdkit(path, socket) as server:
        file = opened(nbd_url(socket), timeout=4)
        assert (file.size, file.kind) == (len(DATA), "object over nbd+unix")
        same_bytes(read(file, 5, 100_000), DATA[5:100_005])
        same_bytes(read(file, len(DATA) - 5, 5), DATA[-5:])
        server.kill()
        server.wait()
        with pytest.raises(SourceIOError, match=r"16384 bytes at offset 0x200000: .*tried"):
            read(file, 2 << 20, 4096)
    with nbdkit(path, socket):
        same_bytes(read(file, 2 << 20, 4096), DATA[2 << 20 :][:4096])
        assert file.identity_now == file.identity
    path.write_bytes(DATA + bytes(4096))
    with nbdkit(path, socket), pytest.raises(SourceIOError, match="it has changed since"):
        read(file, 1 << 20, 4096)


def test_what_ssh_says_is_read_while_it_runs(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe holds; the last of it is the reason, if it ends."""
    path = tmp_path / "image"
    path.write_bytes(DATA)
    with serve(tmp_path) as server:
        monkeypatch.setenv("PATH", server.path)
        wordy = tmp_path / "bin" / "ssh"
        start, command = wordy.read_text().split("exec ", 1)
        wordy.write_text(
            f"{start}head -c 1000000 /dev/zero | tr '\\0' '\\n' >&2\n"
            f"echo the last words >&2\n[ ! -e {tmp_path}/broken ] || exit 1\nexec {command}"
        )
        file = opened(f"ssh://there{path}", timeout=10)
        same_bytes(read(file, 0, 4096), DATA[:4096])
        (tmp_path / "broken").touch()
        with pytest.raises(ConfigError, match=r"cannot open the image: the last words$"):
            opened(f"ssh://there{path}", timeout=10)


def test_a_server_that_compares_nothing_is_asked_each_time(web: Server, opened: Open) -> None:
    web.has_tags = False
    file = opened(web.url)
    same_bytes(read(file, 0, 4096), DATA[:4096])
    web.data = OTHER + b"more"
    with pytest.raises(SourceIOError, match="it has changed"):
        read(file, 1 << 20, 4096)


def test_what_fails_for_a_while_is_tried_again(web: Server, opened: Open) -> None:
    file = opened(web.url)
    web.refusals = 2
    same_bytes(read(file, 1 << 20, 4096), DATA[1 << 20 :][:4096])
    assert web.refusals == 0


def test_a_link_that_is_cut_is_an_error_that_names_the_range(web: Server, opened: Open) -> None:
    file = opened(web.url, timeout=8)
    web.is_cut = True
    expected = rf"{web.url}: cannot read 16384 bytes at offset 0x100000: .*tried \d times"
    with pytest.raises(SourceIOError, match=expected):
        read(file, 1 << 20, 4096)
    web.is_cut = False
    same_bytes(read(file, 1 << 20, 4096), DATA[1 << 20 :][:4096])


def test_a_server_that_does_not_answer_is_waited_for_so_long(web: Server, opened: Open) -> None:
    file = opened(web.url)
    web.hangs.clear()
    file._timeout = 0.3
    for number in range(1, 7):  # more than there are connections
        begun = time.monotonic()
        with pytest.raises(SourceIOError, match=r"no answer within 0\.3 s"):
            read(file, number << 18, 4096)
        assert time.monotonic() - begun < PATIENCE
    web.hangs.set()
    file._timeout = PATIENCE
    same_bytes(read(file, 1 << 20, 4096), DATA[1 << 20 :][:4096])


def test_little_is_read_for_little_and_more_for_who_goes_on(web: Server, opened: Open) -> None:
    file = opened(web.url)
    web.moved = 0
    for place in random.Random(2).sample(range(100), 100):  # noqa: S311
        read(file, place * 30_000 // 4096 * 4096, 4096)
    assert web.moved <= 100 * module.BLOCK
    again = web.moved
    read(file, 0, 4096)
    assert web.moved == again  # it was kept


def test_what_is_kept_is_bounded(
    web: Server, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHE_SIZE", 1 << 18)
    file = opened(web.url)
    same_bytes(read(file, 0, len(DATA)), DATA)
    assert sum(map(len, file._blocks.values())) <= 1 << 18


def test_the_process_that_fetches_ends_with_the_last_who_has_it(web: Server) -> None:
    def running() -> str:
        return subprocess.run(
            ["pgrep", "-f", "sources.remote.fetch"], stdout=subprocess.PIPE, text=True, check=False
        ).stdout

    before = set(running().split())
    file = RemoteFile(web.url, role="image")
    (pid,) = set(running().split()) - before
    file.close()
    wait_for(lambda: pid not in running().split(), "its end")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/x", "cannot open the image: .*[Cc]onnect"),
        ("ssh://nobody-here.invalid/x", "cannot open the image: "),
        ("ssh://there", r"expected ssh://\[user@\]host"),
        ("nosuchscheme://x/y", "nosuchscheme"),
        ("http://user:secret@127.0.0.1:1/x", r"http://user:\*\*\*@127\.0\.0\.1:1/x: cannot open"),
        ("http://127.0.0.1:1/x?X-Amz-Signature=secret", r"/x\?X-Amz-Signature=\*\*\*: cannot open"),
    ],
)
def test_what_cannot_be_opened_says_why(url: str, said: str, opened: Open) -> None:
    with pytest.raises((ConfigError, UnsupportedError), match=said) as caught:
        opened(url)
    assert "secret" not in str(caught.value)


def test_a_server_without_ranges_is_refused(web: Server, opened: Open) -> None:
    web.has_ranges = False
    with pytest.raises(UnsupportedError, match="the server does not give parts of it"):
        opened(web.url)


def test_without_fsspec_it_is_refused(
    web: Server, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fsspec.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    expected = (
        f"{web.url}: needs fsspec; install vmcorefs[remote], and fsspec's package for this place"
    )
    with pytest.raises(UnsupportedError, match=exactly(expected)):
        opened(web.url)


def test_an_image_elsewhere_is_opened_like_one_here(
    web: Server, tmp_path: Path, open_capture: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    saved = dead_machine().save(tmp_path)
    plain = open_capture(saved.ram, memory_map=saved.iomem, backup=saved.lowmem)["vmcore"]
    for data, wrappers in ((saved.ram.read_bytes(), []), (None, ["gzip"])):
        web.data = gzip_member(saved.ram.read_bytes()) if data is None else data
        capture = open_capture(web.url, memory_map=saved.iomem, backup=saved.lowmem)
        vmcore = capture["vmcore"]
        same_bytes(vmcore.pread(vmcore.size, 0), plain.pread(plain.size, 0))
        layout = json.loads(capture["layout.json"].pread(capture["layout.json"].size, 0))
        (image, _low) = layout["inputs"]
        assert (image["path"], image["kind"]) == (web.url, "object over http")
        assert (image["wrappers"], web.tag in image["version"]) == (wrappers, True)
        assert make_report(capture)["inputs"][0]["path"] == web.url
    web.data = pack_dump()
    vmcore = open_capture(web.url)["vmcore"]
    same_bytes(vmcore.pread(vmcore.size, 0), pack_dump())


def test_it_is_verified(web: Server, opened: Open) -> None:
    file = opened(web.url)
    digest = Digest("sha256", hashlib.sha256(DATA).hexdigest())
    assert list(verify([(file, digest)], lambda _done, _total: None))
    assert file.digest == digest


def test_a_url_may_be_a_piece() -> None:
    assert parse_piece("s3://bucket/ram@4G:0+2G") == Piece("s3://bucket/ram", 4 << 30, 0, 2 << 30)
    assert parse_piece("ssh://me@host/ram") == Piece("ssh://me@host/ram")
    assert parse_piece("ssh://me@host/ram@0") == Piece("ssh://me@host/ram", 0)
    assert parse_piece("http://u:p@h:80/ram@0+4K") == Piece("http://u:p@h:80/ram", 0, 0, 4096)
