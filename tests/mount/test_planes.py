"""Every plane shows the same bytes, and the same errors."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.mount.machine import RAM_END, Machine, read, through_api, wait_until_gone
from tests.waiting import PATIENCE, running, wait_for_line

pytestmark = pytest.mark.mount

WAYS = ["plane=kernel", "plane=mapped", "plane=plain", "direct_io"]
PLANE_OF = dict(zip(WAYS, ["kernel", "mapped", "plain", "mapped"], strict=True))

MAP = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
view = mmap.mmap(fd, 0, int(sys.argv[2]), mmap.PROT_READ)
sys.stdout.buffer.write(view[int(sys.argv[3]) :])
"""
ROOT = Path(__file__).parents[2]


def plane_of(mnt: Path, path: str) -> dict[str, Any]:
    """What ``layout.json`` says of a file's plane."""
    plane = json.loads((mnt / "layout.json").read_text())["files"][path]["plane"]
    assert isinstance(plane, dict)
    return plane


def mapped_bytes(path: Path, flags: int, start: int = 0) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", MAP, str(path), str(flags), str(start)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["vmcore", "oldmem"])
def test_every_plane_shows_every_byte_to_reads_and_mappings(
    machine: Machine, way: str, path: str
) -> None:
    expected = through_api(machine, path)
    picks = random.Random(3)  # noqa: S311  # a test's offsets are no secret
    with machine.mounted("-o", way) as mnt:
        assert plane_of(mnt, path)["name"] == PLANE_OF[way]
        for _ in range(100):  # first touch, so read-ahead has not filled the cache
            offset, size = picks.randrange(len(expected)), picks.choice([1, 513, 4096, 300_000])
            assert read(mnt / path, offset, size) == expected[offset : offset + size]
        assert (mnt / path).read_bytes() == expected
        assert read(mnt / path, len(expected) - 5, 100) == expected[-5:]
        assert read(mnt / path, len(expected), 100) == b""
        for flags in (1, 2):  # MAP_SHARED, MAP_PRIVATE
            assert mapped_bytes(mnt / path, flags).stdout == expected


def test_a_file_that_is_the_whole_image_is_passed_through_to_it(machine: Machine) -> None:
    (machine.directory / "iomem").write_text("00000000-00ffffff : System RAM\n")
    at = machine.directory
    sources = ["--map", str(at / "iomem"), str(at / "ram")]
    done = machine.run("mount", "--log", str(machine.log), *sources, str(machine.mountpoint))
    assert done.returncode == 0, done.stderr
    mnt = machine.mountpoint
    assert plane_of(mnt, "oldmem") == {
        "name": "kernel",
        "by": f"passthrough to {at / 'ram'}",
        "why_not": [],
    }
    assert (mnt / "oldmem").read_bytes() == (at / "ram").read_bytes()
    assert mapped_bytes(mnt / "oldmem", 1).stdout == (at / "ram").read_bytes()
    assert machine.run("umount", str(mnt)).returncode == 0
    machine.check_log()


@pytest.mark.parametrize("way", WAYS)
def test_missing_ram_is_an_error_in_every_plane_and_never_zeros(machine: Machine, way: str) -> None:
    machine.expected_log = ["no input holds"]
    image = machine.directory / "ram"
    os.truncate(image, 0x700000)
    with machine.mounted("--truncated", "-o", way) as mnt:
        plane = plane_of(mnt, "oldmem")
        assert plane["name"] != "kernel"
        if way == "plane=kernel":
            assert plane["why_not"] == [
                "kernel: some of it must read as an error, and EROFS has only zeros for that"
            ]
        for offset in (0x700000, 0x7FF000, 0xC00000, RAM_END - 4096):
            with pytest.raises(OSError, match="Input/output error"):
                read(mnt / "oldmem", offset, 4096)
        assert read(mnt / "oldmem", 0x6FFFF8, 8) == (0x6FFFF8).to_bytes(8, "little")
        assert read(mnt / "oldmem", 0x800000, 4096) == bytes(4096)
        # a fault of a reader's mapping is its own SIGBUS; the daemon goes on
        assert mapped_bytes(mnt / "oldmem", 1, 0x700000).returncode == -7
        assert read(mnt / "oldmem", 0x100000, 8) == (0x100000).to_bytes(8, "little")
    assert "ERROR" in machine.log.read_text()


def test_a_vanished_page_is_told_by_name_and_the_daemon_goes_on(machine: Machine) -> None:
    machine.expected_log = ["it ends there now", "are lost with"]
    with machine.mounted("-o", "plane=mapped") as mnt:
        assert plane_of(mnt, "oldmem")["name"] == "mapped"
        os.truncate(machine.directory / "ram", 0x700000)
        with pytest.raises(OSError, match="Input/output error"):
            read(mnt / "oldmem", 0xC00000, 4096)
        assert read(mnt / "oldmem", 0x100000, 8) == (0x100000).to_bytes(8, "little")
    assert "at offset 0xc00000: it ends there now, but had 16777216 bytes" in (
        machine.log.read_text()
    )


def test_a_reader_outlives_a_killed_daemon_and_nothing_is_left_behind(machine: Machine) -> None:
    expected = through_api(machine, "vmcore")
    with machine.mounted() as mnt:
        assert plane_of(mnt, "vmcore")["by"] == "passthrough to EROFS over the inputs"
        with (mnt / "vmcore").open("rb", buffering=0) as file:
            os.kill(machine.daemon, signal.SIGKILL)
            wait_until_gone(machine.daemon)
            assert os.pread(file.fileno(), len(expected), 0) == expected
        assert machine.run("umount", str(mnt)).returncode == 0
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    assert [line for line in mounts if " erofs " in line or str(machine.directory) in line] == []


def test_an_image_that_has_shrunk_is_served_with_errors_when_it_is_opened_again(
    machine: Machine,
) -> None:
    machine.expected_log = ["it ends there now", "are lost with"]
    at = machine.directory
    (at / "iomem").write_text("00000000-00ffffff : System RAM\n")
    sources = ["--map", str(at / "iomem"), str(at / "ram")]
    done = machine.run("mount", "--log", str(machine.log), *sources, str(machine.mountpoint))
    assert done.returncode == 0, done.stderr
    path = machine.mountpoint / "oldmem"
    assert read(path, 0xC00000, 8) == (0xC00000).to_bytes(8, "little")
    os.truncate(at / "ram", 0x700000)
    with pytest.raises(OSError, match="Input/output error"):
        read(path, 0xC00000, 8)
    assert read(path, 0x100000, 8) == (0x100000).to_bytes(8, "little")
    assert machine.run("umount", str(machine.mountpoint)).returncode == 0
    machine.check_log()
    assert "an input has shrunk" in machine.log.read_text()


def test_everybody_reads_what_the_kernel_serves_if_allowed_to(machine: Machine) -> None:
    machine.directory.chmod(0o755)
    for parent in list(machine.directory.parents)[:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for allowed, options in ((True, ["--allow-other"]), (False, [])):
        with machine.mounted(*options) as mnt:
            command = [*nobody, "cat", str(mnt / "vmcore")]
            done = subprocess.run(command, capture_output=True, check=False, timeout=60)
            assert (done.stdout == through_api(machine, "vmcore")) == allowed
            assert (done.returncode == 0) == allowed


def test_a_file_is_opened_with_o_direct_while_the_kernel_serves_it(machine: Machine) -> None:
    expected = through_api(machine, "vmcore")
    copy = machine.directory / "copy"
    with machine.mounted() as mnt:
        command = ["dd", f"if={mnt / 'vmcore'}", f"of={copy}", "bs=1M", "iflag=direct"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert copy.read_bytes() == expected
        assert (mnt / "vmcore").read_bytes() == expected


def test_seeking_finds_holes_and_data(machine: Machine) -> None:
    with machine.mounted() as mnt, (mnt / "oldmem").open("rb") as file:
        fd = file.fileno()
        assert os.lseek(fd, 0x100000, os.SEEK_HOLE) == 0x400000  # the crash kernel's range
        assert os.lseek(fd, 0x400000, os.SEEK_DATA) == 0x500000
        assert os.lseek(fd, 0x500000, os.SEEK_HOLE) == 0x800000  # not RAM
        assert os.lseek(fd, 0x812345, os.SEEK_DATA) == 0xC00000
        assert os.lseek(fd, 0xC00000, os.SEEK_HOLE) == RAM_END
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(fd, RAM_END, os.SEEK_DATA)


# another user namespace cannot mount anything in this one; the root may be no mount point
UNCHANGED = ["--propagation", "unchanged"]


@pytest.mark.skipif(
    subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode != 0,
    reason="no user namespace can be made here: the kernel refuses that in a chroot, and some"
    " distributions everywhere; test_confined has a user without privileges",
)
def test_without_privileges_it_falls_to_the_mapped_plane_without_a_word(machine: Machine) -> None:
    script = (
        "set -e; mnt=$1; shift;"
        '"$@"; cat "$mnt/layout.json" > "$mnt/../layout"; cat "$mnt/vmcore" > "$mnt/../copy";'
        ' "$1" -m vmcorefs umount "$mnt"'
    )
    mount = machine.command(
        "mount", "--log", str(machine.log), *machine.sources, str(machine.mountpoint)
    )
    namespace = ["unshare", "--user", "--map-root-user", "--mount", *UNCHANGED]
    done = subprocess.run(
        [*namespace, "sh", "-c", script, "sh", str(machine.mountpoint), *mount],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    plane = json.loads((machine.directory / "layout").read_text())["files"]["vmcore"]["plane"]
    assert plane["name"] == "mapped"
    assert "Operation not permitted" in plane["why_not"][0]
    assert (machine.directory / "copy").read_bytes() == through_api(machine, "vmcore")
    machine.check_log()


MANY = """
import sys
from vmcorefs.fuse.serve import MountOptions, serve
from vmcorefs.tree.file import text_file

tree = {f"{n:0200}": text_file(f"{n:0200}", lambda: b"") for n in range(3000)}
serve(tree, MountOptions(sys.argv[1]), time=0.0, ready=lambda: print("ready", flush=True))
"""


def test_a_long_listing_is_whole(machine: Machine) -> None:
    command = [sys.executable, "-c", MANY, str(machine.mountpoint)]
    with running(command, stdout=subprocess.PIPE, cwd=ROOT) as daemon:
        wait_for_line(daemon, "ready")
        assert sorted(os.listdir(machine.mountpoint)) == [f"{n:0200}" for n in range(3000)]
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0


SLOW = """
import sys
from vmcorefs.fuse.serve import MountOptions, serve
from vmcorefs.sources.base import BytesSource
from vmcorefs.tree.file import table_file, text_file, whole

class Slow(BytesSource):
    def pread_into(self, offset, buffer):
        open(sys.argv[2], "w").close()
        with open(sys.argv[3]) as go:
            go.read()
        super().pread_into(offset, buffer)

tree = {
    "slow": table_file("slow", whole(0, 4096), (Slow("slow", bytes([1]) * 4096),)),
    "fast": text_file("fast", lambda: b"fast")}
serve(tree, MountOptions(sys.argv[1]), time=0.0, ready=lambda: print("ready", flush=True))
"""


def test_a_read_that_waits_keeps_nobody_else_waiting(machine: Machine) -> None:
    mnt = machine.mountpoint
    reached, go = machine.directory / "reached", machine.directory / "go"
    os.mkfifo(go)
    os.mkfifo(reached)
    command = [sys.executable, "-c", SLOW, str(mnt), str(reached), str(go)]
    with running(command, stdout=subprocess.PIPE, cwd=ROOT) as daemon:
        wait_for_line(daemon, "ready")
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append((mnt / "slow").read_bytes()))
        reader.start()
        with reached.open() as pipe:
            pipe.read()
        assert (mnt / "fast").read_bytes() == b"fast"
        assert sorted(os.listdir(mnt)) == ["fast", "slow"]
        assert got == []
        go.open("w").close()
        reader.join(60)
        assert got == [bytes([1]) * 4096]
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0
