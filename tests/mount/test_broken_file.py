"""A file that cannot be made is its own trouble: the others, the listing and the daemon go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.machine import Machine
from tests.waiting import PATIENCE, running, wait_for_line

pytestmark = pytest.mark.mount

SERVE = """
import os, sys
from vmcorefs.errors import FormatError
from vmcorefs.fuse.serve import MountOptions, serve
from vmcorefs.tree.file import text_file

def fail():
    open(sys.argv[2], "w").close()
    raise FormatError("it cannot be made")

tree = {path: text_file(path, make) for path, make in {
    "vmcore": lambda: b"fine", "kallsyms": fail, "late": lambda: b"made when asked for"}.items()}
serve(tree, MountOptions(sys.argv[1]), time=0.0, ready=lambda: print("ready", flush=True))
"""


def test_a_file_that_cannot_be_made_leaves_the_rest_as_it_is(machine: Machine) -> None:
    mnt = machine.mountpoint
    asked = machine.directory / "asked"
    command = [sys.executable, "-c", SERVE, str(mnt), str(asked)]
    with running(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as daemon:
        wait_for_line(daemon, "ready")
        assert sorted(os.listdir(mnt)) == ["kallsyms", "late", "vmcore"]
        assert not asked.exists()  # a listing asks for names, not for what takes long or fails
        for _ in range(2):
            with pytest.raises(OSError, match="kallsyms"):
                (mnt / "kallsyms").stat()
        assert asked.exists()
        assert (mnt / "late").stat().st_size == 19
        assert (mnt / "late").read_bytes() == b"made when asked for"
        assert (mnt / "vmcore").read_bytes() == b"fine"
        assert daemon.poll() is None
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0


def test_a_made_file_is_read_whole_right_after_a_listing(machine: Machine) -> None:
    with machine.mounted() as mnt:
        assert "layout.json" in os.listdir(mnt)
        descriptor = os.open(mnt / "layout.json", os.O_RDONLY)
        text = os.read(descriptor, 1 << 20)
        os.close(descriptor)
        assert len(text) == (mnt / "layout.json").stat().st_size
        assert text.endswith(b"}\n")
