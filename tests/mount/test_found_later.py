"""A directory whose files are found when somebody asks for them."""

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
from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import text_file

def find():
    with open(sys.argv[2], "a") as asked:
        print("asked", file=asked)
    yield text_file("modules/a.ko.debug", lambda: b"of a")
    yield text_file("modules/b.ko.debug", lambda: b"of b")

def fail():
    raise FormatError("no symbols")

tree = {"vmcore": text_file("vmcore", lambda: b"fine")}
directories = [TreeDirectory("modules", find), TreeDirectory("broken", fail)]
serve(tree, MountOptions(sys.argv[1]), time=0.0, directories=directories,
      ready=lambda: print("ready", flush=True))
"""


def test_files_are_found_when_they_are_asked_for(machine: Machine) -> None:
    mnt = machine.mountpoint
    asked = machine.directory / "asked"
    command = [sys.executable, "-c", SERVE, str(mnt), str(asked)]
    with running(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as daemon:
        wait_for_line(daemon, "ready")
        assert sorted(os.listdir(mnt)) == ["broken", "modules", "vmcore"]
        assert (mnt / "modules").is_dir()
        assert not asked.exists()
        with pytest.raises(FileNotFoundError):
            (mnt / "modules/none").stat()
        assert (mnt / "modules/b.ko.debug").read_bytes() == b"of b"
        assert sorted(os.listdir(mnt / "modules")) == ["a.ko.debug", "b.ko.debug"]
        assert (mnt / "modules/a.ko.debug").stat().st_size == 4
        assert asked.read_text() == "asked\n"
        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                os.listdir(mnt / "broken")
        assert (mnt / "vmcore").read_bytes() == b"fine"
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0
