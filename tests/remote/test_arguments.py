"""What everybody may see of processes, in ``ps``: nothing that lets others into a store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from vmcorefs.errors import VmcorefsError
from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.one import Limits, triage_dump
from vmcorefs.fleet.row import Row
from vmcorefs.sources.remote.file import RemoteFile

_PASSWORD = "for-nobody-else"  # noqa: S105


def _arguments() -> Iterator[str]:
    """Of each process but this one."""
    for path in Path("/proc").glob("[0-9]*"):
        if path.name != str(os.getpid()):
            with suppress(OSError):  # it has ended
                yield (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


class _Server(ThreadingHTTPServer):
    """Has nothing.

    Attributes:
        seen: Arguments of all processes, while one waited for an answer.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.seen: set[str] = set()


class _Asked(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.seen.update(_arguments())
        self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()


@pytest.fixture
def asked() -> Iterator[tuple[str, set[str]]]:
    """A URL with a password in it, and the arguments that were seen when it was asked for."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://me:{_PASSWORD}@127.0.0.1:{server.server_address[1]}/vmcore", server.seen
    server.shutdown()
    server.server_close()
    thread.join()


def _triage(url: str) -> str:
    row = msgspec.json.decode(
        triage_dump(Dump(url, None, None), Limits(100, 2 << 30)).row, type=Row
    )
    return row.reason


def _open(url: str) -> str:
    with pytest.raises(VmcorefsError) as caught:
        RemoteFile(url, role="image")
    return str(caught.value)


@pytest.mark.parametrize(
    ("opens", "module"),
    [(_triage, "vmcorefs.fleet.forkserver"), (_open, "vmcorefs.sources.remote.fetch")],
)
def test_no_process_has_a_password_among_its_arguments(
    asked: tuple[str, set[str]], opens: Callable[[str], str], module: str
) -> None:
    url, seen = asked
    why = opens(url)

    assert "me:***@127.0.0.1" in why
    assert any(f"-m {module}" in arguments for arguments in seen)
    assert not [arguments for arguments in seen if _PASSWORD in arguments]
