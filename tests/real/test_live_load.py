"""A Linux that runs and has something to do, read while it runs, for as long as is asked for.

VMCOREFS_LIVE_SECONDS says how long; ten minutes are what the documentation speaks of.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.real.marks import REAL
from tests.real.running import (
    HIGH,
    LOW,
    MIB,
    PLUGGED,
    PRIVATE,
    SHARED,
    Running,
    running_linux,
)
from tests.real.trees import compare, mounted, read, vmcorefs
from tests.waiting import wait_for
from vmcorefs.fuse.mounts import list_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = REAL

SECONDS: Final = float(os.environ.get("VMCOREFS_LIVE_SECONDS", "60"))
BETWEEN: Final = 20.0
"""Seconds of reading between two comparisons."""
DRIFT: Final = 0.5
"""Seconds that the guest's clock may be off, beside this machine's: its lines are written late."""


@pytest.fixture(params=[SHARED, PRIVATE], ids=["shared", "private"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    where = tmp_path / "guest"
    where.mkdir()
    with running_linux(where, request.param) as started:
        started.plug_in()
        yield started


def test_no_page_is_wrong_and_the_guests_clock_goes_on(guest: Running, tmp_path: Path) -> None:
    code = guest.kernel_code
    saved = tmp_path / "saved"
    guest.save(saved, *code)
    rng = random.Random(1)  # noqa: S311
    least = most = moved = rounds = 0.0  # seconds that it was stopped, as far as that is known
    with mounted(tmp_path, f"qmp:{guest.path}", warns=r"(?s).*") as tree:
        live = tree / "oldmem.live"
        here, there = guest.next_time()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            until = min(time.monotonic() + BETWEEN, end)
            while time.monotonic() < until:
                start, stop = rng.choice((LOW, HIGH, PLUGGED))
                moved += len(read(live, rng.randrange(start, stop - MIB), MIB))
            # the kernel's code is not written to, whatever runs
            assert compare(live, code[0], saved, 0, code[1] - code[0]) == (0, None)
            asked = time.monotonic()
            guest.execute("stop")
            begun = time.monotonic()
            for start, stop in (LOW, HIGH, PLUGGED):
                guest.save(tmp_path / "run", start, stop)
                assert compare(live, start, tmp_path / "run", 0, stop - start) == (0, None)
            least += time.monotonic() - begun
            guest.execute("cont")
            most += time.monotonic() - asked
            rounds += 1
        here, there = (
            now - then for now, then in zip(guest.next_time(), (here, there), strict=True)
        )
    slow, fast = here - most - there, there - (here - least)
    seen = (
        f"{rounds:g} comparisons, {moved / MIB:g} MiB read; slow by {slow:.3f} s or more, fast by"
    )
    sys.stderr.write(f"{SECONDS:g} s: {seen} {fast:.3f} s or more\n")
    assert max(slow, fast) < DRIFT
    assert guest.is_running


def test_a_guest_is_stopped_for_as_long_as_it_is_mounted(guest: Running, tmp_path: Path) -> None:
    name = f"qmp:{guest.path}"
    with mounted(tmp_path, "--pause", name, warns=r"(?s).*") as tree:
        assert not guest.is_running
        for start, stop in (LOW, HIGH, PLUGGED):
            guest.save(tmp_path / "run", start, stop)
            assert compare(tree / "oldmem.live", start, tmp_path / "run", 0, stop - start) == (
                0,
                None,
            )
    wait_for(lambda: guest.is_running, "a guest that goes on")
    assert "that is stopped" in vmcorefs("inspect", "--json", "--pause", name)
    wait_for(lambda: guest.is_running, "a guest that goes on after a report")

    tree = tmp_path / "killed"
    tree.mkdir()
    log = tmp_path / "killed.log"
    vmcorefs("mount", "--log", log, "--pause", name, tree)
    assert not guest.is_running
    (daemon,) = [found.pid for found in list_mounts() if found.mountpoint == str(tree)]
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: guest.is_running, "a guest that goes on though the daemon was killed")
    vmcorefs("umount", "--lazy", tree)

    guest.execute("stop")
    assert "that is stopped" in vmcorefs("inspect", "--json", "--pause", name)
    time.sleep(1)
    assert not guest.is_running  # it was stopped by somebody else
