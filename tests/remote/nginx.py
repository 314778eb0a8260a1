"""An nginx that serves a directory, with ranges and ETags."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import running, wait_for

_SETTINGS = """\
daemon off;
master_process off;
error_log stderr;
pid {state}/pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {state}/body;
  proxy_temp_path {state}/proxy;
  fastcgi_temp_path {state}/fastcgi;
  uwsgi_temp_path {state}/uwsgi;
  scgi_temp_path {state}/scgi;
  server {{
    listen {address}:{port};
    root {directory};
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A server.

    Attributes:
        url: Of the directory.
        process: The one that listens.
    """

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])


@contextmanager
def nginx(
    directory: Path, state: Path, address: str = "127.0.0.1", port: int = 0
) -> Iterator[Nginx]:
    """Serve a directory for as long as the block.

    Args:
        directory: What it serves; everybody may read it.
        state: A directory of its own, which is made.
        address: Where it listens.
        port: The same; 0 for a free one.
    """
    found = shutil.which("nginx", path="/usr/sbin:" + os.environ["PATH"])
    assert found, "nginx is not installed: ./run setup"
    state.mkdir(exist_ok=True)
    port = port or _free_port(address)
    settings = state / "nginx.conf"
    user = f"user root;\n{_SETTINGS}" if os.geteuid() == 0 else _SETTINGS
    settings.write_text(user.format(state=state, address=address, port=port, directory=directory))
    with running([found, "-p", state, "-c", settings], stderr=subprocess.PIPE) as process:
        wait_for(lambda: _answers(address, port), "a server", process)
        yield Nginx(f"http://{address}:{port}", process)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
