"""``vmcorefs save`` on a real kernel's memory, read by other people's tools."""

from __future__ import annotations

import hashlib
import json
import signal
import struct
import subprocess
import time
from typing import TYPE_CHECKING

from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import VMCOREFS, differences, vmcorefs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.capture import Capture

pytestmark = REAL

PANICKED = "Kernel panic - not syncing: sysrq triggered crash"


def _dump_dmesg(dump: Path) -> str:
    out = dump.with_name(f"{dump.name}-log")
    return tools.makedumpfile(dump, out, "--dump-dmesg").read_text()


@only("kexec", "kexec-newer")
def test_a_dump_is_the_same_from_the_memory_and_from_the_kernels_own_vmcore(
    capture: Capture, scratch: Path
) -> None:
    dump, again = scratch / "vmcore", scratch / "again"
    report = json.loads(vmcorefs("save", "--quiet", "--json", capture.config, "-o", dump))
    vmcorefs("save", "--quiet", capture.vmcore, "-o", again)
    assert differences(dump, again) == (0, None)
    assert report["files"] == [
        {"name": str(dump), "sha256": hashlib.sha256(dump.read_bytes()).hexdigest()}
    ]
    assert (report["complete"], report["lost_bytes"], report["warnings"]) == (True, 0, [])
    assert report["pages"]["free"]["left_out"] > report["pages"]["kernel"]["kept"] > 10_000
    # the log beside it, the log in it, and the log of the truth
    log = (scratch / "vmcore-dmesg.txt").read_text()
    assert PANICKED in log
    assert log == tools.vmcore_dmesg(capture.vmcore)
    assert (
        _dump_dmesg(dump)
        == tools.makedumpfile(capture.vmcore, scratch / "log", "--dump-dmesg").read_text()
    )
    assert tools.crash_osrelease(dump) == f"{capture.kernel.name}\n"


@only("kexec")
def test_a_saver_that_is_killed_again_and_again_ends_with_the_same_dump(
    capture: Capture, scratch: Path
) -> None:
    whole, dump, incomplete = (scratch / name for name in ("whole", "vmcore", "vmcore.incomplete"))
    vmcorefs("save", "--quiet", "-d", "1", capture.config, "-o", whole)
    size = whole.stat().st_size
    command = [VMCOREFS, "save", "--quiet", "-d", "1", str(capture.config), "-o", str(dump)]
    for number, part in ((signal.SIGKILL, 0.3), (signal.SIGTERM, 0.5), (signal.SIGKILL, 0.7)):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as saver:
            while saver.poll() is None and not _is_long(incomplete, int(part * size)):
                time.sleep(0.001)
            saver.send_signal(number)
        assert saver.returncode == (-number if number == signal.SIGKILL else 6)
        assert not dump.exists()
        assert tools.crash_osrelease(incomplete) == f"{capture.kernel.name}\n"
        assert _is_marked_incomplete(incomplete)
        said = tools.attempt(["makedumpfile", "--dump-dmesg", incomplete, scratch / "log"])
        assert "makedumpfile Failed" in said.stdout  # it lacks a page of the log, and says so
        command = [*command[:8], "--resume"]
    report = json.loads(vmcorefs(*command[1:], "--json"))
    assert report["resumed_pages"] > 10_000
    assert differences(dump, whole) == (0, None)
    assert not incomplete.exists()


def _is_marked_incomplete(dump: Path) -> bool:
    """DUMP_DH_COMPRESSED_INCOMPLETE in ``status`` (makedumpfile: diskdump_mod.h)."""
    (status,) = struct.unpack_from("<I", dump.read_bytes(), 424)
    return bool(status & 0x8)


def _is_long(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size >= size
    except FileNotFoundError:
        return False


@only("kexec")
def test_a_level_that_does_not_fit_gives_way_to_one_that_does(
    capture: Capture, scratch: Path
) -> None:
    disk, dump = scratch / "disk", scratch / "dump"
    disk.mkdir()
    # a mount namespace of its own: the file system goes away with it
    script = 'd=$1; to=$2; shift 2; mount -t tmpfs -o size=40m none "$d" && "$@"; s=$?; \
        ls "$d"; cp "$d/vmcore" "$to"; exit $s'
    save = [VMCOREFS, "save", "--quiet", "-d", "0,31", str(capture.config)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", disk, dump, *save, "-o", disk / "vmcore"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "vmcorefs: warning: no room for dump level 0; trying 31 (" in done.stderr
    assert done.stdout.split() == ["vmcore", "vmcore-dmesg.txt"]
    vmcorefs("save", "--quiet", capture.config, "-o", scratch / "at31")
    assert differences(dump, scratch / "at31") == (0, None)
