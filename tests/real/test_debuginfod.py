"""``--debuginfod``, with elfutils' own client and a server on this machine."""

from __future__ import annotations

import http.server
import os
import re
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.lab.packages import NATIVE, download, show, unpack
from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import mounted
from vmcorefs.kernel.debug.installed import read_build_id

if TYPE_CHECKING:
    from tests.lab.capture import Capture

pytestmark = REAL


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def client(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``debuginfod-find`` of Debian's package, first in PATH; it keeps what it gets in scratch."""
    needs = re.search(r"Depends: (libdebuginfod\S+)", show("depends", "debuginfod", NATIVE))
    assert needs is not None
    for package in ("debuginfod", needs[1]):
        (scratch / package).mkdir()
        unpack(download(package, NATIVE, scratch / package), scratch / "client")
    monkeypatch.setenv("PATH", str(scratch / "client/usr/bin"), prepend=os.pathsep)
    (library,) = (scratch / "client/usr/lib").glob("*/libdebuginfod.so.1")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(scratch / "cache"))


@only("kexec")
@pytest.mark.usefixtures("client")
def test_gdb_has_lines_from_a_server(
    capture: Capture, vmlinux: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = scratch / f"www/buildid/{read_build_id(str(vmlinux))}/debuginfo"
    place.parent.mkdir(parents=True)
    place.symlink_to(vmlinux)
    handler = partial(_Quiet, directory=str(scratch / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            with mounted(scratch, "--debuginfod", capture.config) as tree:
                script = (tree / "gdbinit").read_text()
                said = tools.gdb_script(tree / "gdbinit", "bt")
        finally:
            server.shutdown()
            thread.join()

    assert str(scratch / "cache") in script
    assert "in panic (fmt=" in said
    assert "at drivers/tty/sysrq.c:" in said
