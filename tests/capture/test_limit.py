"""The time limit: systemd is asked for more while it lasts, and no longer."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from vmcorefs.capture.limit import TIMED_OUT

_LIMITED = """
import sys, time
from vmcorefs.capture.limit import time_limit
with time_limit(float(sys.argv[1])):
    time.sleep(float(sys.argv[2]))
print("done")
"""


def run(path: Path, limit: float, seconds: float) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run for ``seconds`` under ``limit``; give the process and all that it told systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path / "notify"))
        done = subprocess.run(
            [sys.executable, "-c", _LIMITED, str(limit), str(seconds)],
            env={"NOTIFY_SOCKET": str(path / "notify")},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        notify.setblocking(False)
        return done, notify.recv(4096).decode()


def test_systemd_is_asked_for_more_time(tmp_path: Path) -> None:
    done, told = run(tmp_path, 1000, 0.1)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert told == "EXTEND_TIMEOUT_USEC=60000000"


def test_no_more_than_is_left(tmp_path: Path) -> None:
    done, told = run(tmp_path, 30, 0.1)
    assert done.returncode == 0
    assert 5_000_000 < int(told.removeprefix("EXTEND_TIMEOUT_USEC=")) <= 35_000_000


def test_a_process_whose_time_is_over_ends(tmp_path: Path) -> None:
    done, _ = run(tmp_path, 0.3, 30)
    assert done.returncode == TIMED_OUT
    assert done.stderr == "vmcorefs: not done after 0.3 s: giving up\n"
