"""The processes that open dumps: found by what they open."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path


def _opening() -> Iterator[tuple[int, int, list[str]]]:
    """Process, parent and arguments of each process that opens a dump."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes().split(b"\0")[:-1]
            status = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"vmcorefs.fleet.child" in arguments:
            yield int(path.name), int(status[1]), [os.fsdecode(one) for one in arguments]


def child_of(parent: int | None, place: str, timeout: float = 100) -> int:
    """Wait for the process that opens a dump; with a parent, for that one's."""
    return _wait(parent, place, timeout)[0]


def child_and_parent(place: str, timeout: float = 100) -> tuple[int, int]:
    """Wait until a dump is being opened, and find the worker that has it done too."""
    return _wait(None, place, timeout)


def is_running(process: int) -> bool:
    """Whether a process is there, and not only its status."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _wait(parent: int | None, place: str, timeout: float) -> tuple[int, int]:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        for process, above, arguments in _opening():
            if arguments[-1] == place and parent in {None, above}:
                return process, above
        time.sleep(0.002)
    raise AssertionError(f"{place}: nobody opens it")
