"""An nbdkit that serves a file, and libnbd's module for whatever Python runs the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import running, wait_for

_DEBIANS = Path("/usr/lib/python3/dist-packages")


def give_libnbd(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the process that fetches import Debian's module, and nothing else of Debian's."""
    directory.mkdir()
    for path in (_DEBIANS / "nbd.py", *_DEBIANS.glob("libnbdmod.*")):
        (directory / path.name).symlink_to(path)
    assert len(list(directory.iterdir())) == 2, "python3-libnbd is not installed: ./run setup"
    patch.setenv("PYTHONPATH", str(directory))


@contextmanager
def nbdkit(path: Path, socket: Path) -> Iterator[subprocess.Popen[str]]:
    """Serve a file, at ``nbd_url(socket)``, for as long as the block."""
    socket.unlink(missing_ok=True)
    command: list[str | Path] = ["nbdkit", "-f", "-r", "-U", socket, "file", path]
    with running(command, stderr=subprocess.PIPE) as process:
        wait_for(socket.exists, "socket", process)
        yield process


def nbd_url(socket: Path) -> str:
    """The URL of what is served there."""
    return f"nbd+unix:///?socket={os.fspath(socket)}"
