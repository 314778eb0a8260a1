"""``vmcorefs save`` on a real kernel's memory, read by other people's tools."""

from __future__ import annotations

import hashlib
import json
import signal
import struct
import subprocess
import sys
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from tests.apart import apart
from tests.oracles.kdump_reader import PAGE, KdumpFile, Rows
from tests.real import tools
from tests.real.marks import REAL, only
from tests.real.trees import VMCOREFS, differences, vmcorefs
from tests.waiting import PATIENCE, running, wait_for
from vmcorefs.save.formats.kdump_resume import STEP_BACK

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
def test_the_search_and_eight_threads_take_less_than_112_mib(
    capture: Capture, scratch: Path
) -> None:
    """Of memory alone, as its kernel tells (VmHWM): a child's ru_maxrss has its parent's in it."""
    script = (
        "import sys\n"
        "from vmcorefs.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(open('/proc/self/status').read())\n"
    )
    options = ["-d", "0", "--threads", "8", "--quiet", "-o", str(scratch / "vmcore")]
    done = subprocess.run(
        [sys.executable, "-c", script, "save", str(capture.ram), *options],
        check=True,
        capture_output=True,
        text=True,
    )
    (peak,) = [line.split() for line in done.stdout.splitlines() if line.startswith("VmHWM:")]
    assert int(peak[1]) < 112 << 10, peak


@only("kexec")
def test_a_saver_that_is_killed_again_and_again_ends_with_the_same_dump(
    capture: Capture, scratch: Path
) -> None:
    whole, dump, incomplete = (scratch / name for name in ("whole", "vmcore", "vmcore.incomplete"))
    vmcorefs("save", "--quiet", "-d", "1", capture.config, "-o", whole)
    size, rows = whole.stat().st_size, KdumpFile(whole.read_bytes()).rows
    command = [VMCOREFS, "save", "--quiet", "-d", "1", str(capture.config), "-o", str(dump)]
    present = written = 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        more = present + (size - present) * 2 // 5  # than earlier tries have left
        with running(command, stderr=subprocess.DEVNULL) as saver:
            wait_for(partial(_is_long, incomplete, more), f"file of {more} bytes", saver)
            saver.send_signal(number)
            saver.wait(PATIENCE)
        assert saver.returncode == (-number if number == signal.SIGKILL else 6)
        assert not dump.exists()
        assert tools.crash_osrelease(incomplete) == f"{capture.kernel.name}\n"
        assert _is_marked_incomplete(incomplete)
        # what it lacks is an error to a tool, and no zeros
        log = scratch / f"log-{present}"
        said = tools.attempt(["makedumpfile", "--dump-dmesg", incomplete, log])
        assert "makedumpfile Failed" in said.stdout or PANICKED in log.read_text()
        present, written = incomplete.stat().st_size, _count_written(incomplete, rows)
        command = [*command[:8], "--resume"]
    report = json.loads(vmcorefs(*command[1:], "--json"))
    # one more, if it is of a zero page and was torn behind its offset: it is written again anyway
    assert report["resumed_pages"] - (written - STEP_BACK // PAGE) in (0, 1)
    assert written > STEP_BACK // PAGE
    assert differences(dump, whole) == (0, None)
    assert not incomplete.exists()


def _count_written(dump: Path, rows: Rows) -> int:
    """How many of the first pages of a dump are there, and where they will be when it is whole."""
    data = dump.read_bytes()
    found = KdumpFile(data).rows
    there = (found[pfn] == row and row[0] + row[1] <= len(data) for pfn, row in rows.items())
    return sum(takewhile(bool, there))


def _is_long(file: Path, size: int) -> bool:
    return file.stat().st_size >= size


def _is_marked_incomplete(dump: Path) -> bool:
    """DUMP_DH_COMPRESSED_INCOMPLETE in ``status`` (makedumpfile: diskdump_mod.h)."""
    (status,) = struct.unpack_from("<I", dump.read_bytes(), 424)
    return bool(status & 0x8)


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
        [*apart(), "sh", "-c", script, "sh", disk, dump, *save, "-o", disk / "vmcore"],
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
