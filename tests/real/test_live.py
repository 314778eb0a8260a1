"""A QEMU that runs, with a dead machine's memory in it: read out of QEMU's own memory.

Its CPU finds nothing to boot and waits in the firmware, which writes below 1 MiB and at the end.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.lab.capture import cached_snapshot
from tests.real.conftest import RECIPES
from tests.real.marks import REAL
from tests.real.trees import compare, mounted, vmcorefs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = REAL

MIB: Final = 1 << 20
GIB: Final = 1 << 30
PRIVATE: Final = ("-machine", "pc", "-m", "1G")
SHARED: Final = (
    *("-machine", "q35,memory-backend=ram", "-m", "1G,slots=2,maxmem=8G"),
    *("-object", "memory-backend-memfd,id=ram,size=1G,share=on"),
    *("-object", "memory-backend-ram,id=plugged,size=256M", "-device", "pc-dimm,memdev=plugged"),
)


class Guest:
    """A QEMU that runs."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.path = path
        self.pid = process.pid

    def execute(self, command: str, **arguments: object) -> Any:
        """Ask its monitor."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(600)
            connection.connect(str(self.path))
            with connection.makefile("rwb") as stream:
                told = None
                for one, given in (("qmp_capabilities", {}), (command, arguments)):
                    stream.write(json.dumps({"execute": one, "arguments": given}).encode())
                    stream.flush()
                    told = next(line for line in map(json.loads, stream) if "return" in line)
                return told["return"] if told is not None else None


@contextmanager
def guest(where: Path, *machine: str) -> Iterator[Guest]:
    """Start a QEMU with the memory of a capture at address 0."""
    ram = cached_snapshot(RECIPES["kexec"]).ram
    path = where / "qmp"
    command = ["qemu-system-x86_64", *machine, "-nodefaults", "-display", "none"]
    command += ["-qmp", f"unix:{path},server=on,wait=off"]
    command += ["-device", f"loader,file={ram},addr=0,force-raw=on"]
    with subprocess.Popen(command) as process:
        try:
            ready = Guest(path, process)
            for _ in range(1200):
                assert process.poll() is None
                if path.exists():
                    break
                time.sleep(0.1)
            assert ready.execute("query-status")["running"]
            yield ready
        finally:
            process.kill()


@pytest.fixture(params=[PRIVATE, SHARED], ids=["private", "shared"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    with guest(tmp_path, *request.param) as started:
        yield started


def test_a_guest_is_read_out_of_qemus_memory(running: Guest, tmp_path: Path) -> None:
    names = [f"qmp:{running.path}", f"qemu:{running.pid}"]
    reports = [json.loads(vmcorefs("inspect", "--json", name)) for name in names]
    saved = tmp_path / "saved"
    running.execute("pmemsave", val=0, size=GIB, filename=str(saved))
    for name, report in zip(names, reports, strict=True):
        with mounted(tmp_path, name) as tree:
            assert {"vmcore.live", "oldmem.live", "kcore.live"} <= {p.name for p in tree.iterdir()}
            assert not (tree / "vmcore").exists()
            assert "kcore.live" in (tree / "gdbinit").read_text()
            ((crash_kernel, behind),) = report["memory_map"]["crash_kernel"]
            end_of_ram = report["memory_map"]["end"]
            for start, end in ((MIB, crash_kernel), (behind, end_of_ram - MIB)):
                assert compare(tree / "oldmem.live", start, saved, start, end - start) == (0, None)
        (tmp_path / "tree").rmdir()
        (tmp_path / "log").unlink()
    assert running.execute("query-status")["running"]
    told = json.loads(vmcorefs("report", "--json", names[0]))
    assert told["crash"]["title"] == "kernel panic: sysrq triggered crash"
