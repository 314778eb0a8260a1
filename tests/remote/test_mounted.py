"""A mount of an image elsewhere: the daemon has no network, and another process has."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.builders.dead_machines import stamped
from tests.matching import same_bytes
from tests.real.trees import read, vmcorefs
from tests.remote.servers import serving
from tests.waiting import wait_for

pytestmark = pytest.mark.mount


SIZE = 80 << 20
"""More than is kept of it: the scan for the kernel has read all of it, and forgotten the start."""


def test_a_confined_daemon_serves_an_image_elsewhere(tmp_path: Path) -> None:
    iomem, where = tmp_path / "iomem", tmp_path / "elsewhere"
    iomem.write_text(f"00000000-{SIZE - 1:08x} : System RAM\n")
    where.mkdir()

    def fetching() -> set[str]:
        found = subprocess.run(
            ["pgrep", "-f", "sources.remote.fetch"], stdout=subprocess.PIPE, text=True, check=False
        )
        return set(found.stdout.split())

    before = fetching()
    start = stamped(0, 0x100000)
    tree, log = where / "tree", where / "log"
    tree.mkdir()
    with serving(start + bytes(SIZE - len(start))) as server:
        vmcorefs("mount", "--log", log, "--map", iomem, server.url, tree)
        try:
            assert fetching() - before
            same_bytes(read(tree / "oldmem", 0x1000, 0x1000), start[0x1000:0x2000])
            server.data = bytes(SIZE)
            with pytest.raises(OSError, match="Input/output error"):
                read(tree / "oldmem", 8 << 20, 4096)
        finally:
            vmcorefs("umount", tree)
        assert "it has changed since it was opened" in log.read_text()
    wait_for(lambda: not fetching() - before, "the end of what fetches")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seconds", "is_read"), [(2, False), (60, True), (0, True)])
def test_a_read_may_take_as_long_as_read_timeout_says(
    seconds: int, is_read: bool, tmp_path: Path
) -> None:
    """33 seconds are more than the default: only who asks for more, or for no limit, waits."""
    iomem = tmp_path / "iomem"
    iomem.write_text(f"00000000-{SIZE - 1:08x} : System RAM\n")
    start = stamped(0, 0x100000)
    tree, log = tmp_path / "tree", tmp_path / "log"
    tree.mkdir()
    with serving(start + bytes(SIZE - len(start))) as server:
        timeout = f"read_timeout={seconds}"
        vmcorefs("mount", "-o", timeout, "--log", log, "--map", iomem, server.url, tree)
        try:
            server.hangs.clear()
            release = threading.Timer(33, server.hangs.set)
            release.start()
            begun = time.monotonic()
            if is_read:
                same_bytes(read(tree / "oldmem", 0x1000, 0x1000), start[0x1000:0x2000])
                assert time.monotonic() - begun > 30
            else:
                with pytest.raises(OSError, match="Input/output error"):
                    read(tree / "oldmem", 0x1000, 0x1000)
                assert time.monotonic() - begun < 30
            release.cancel()
            server.hangs.set()
        finally:
            vmcorefs("umount", tree)
