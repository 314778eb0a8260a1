"""Whether a daemon runs, for a user who may not look at what it has open."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.waiting import running
from vmcorefs.fuse import mounts

NAMED = """
import sys
from pathlib import Path
Path("/proc/self/comm").write_text(sys.argv[1])
print("named", flush=True)
sys.stdin.read()
"""


def test_a_daemon_that_has_died_and_was_not_reaped_does_not_run() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for name, runs in (("vmcorefs", True), ("another", False)):
        with running([sys.executable, "-c", NAMED, name], **pipes) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "named\n"
            assert mounts._runs_by_name(process.pid) == runs
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert not mounts._runs_by_name(process.pid)
