"""The processes that open dumps: found by what they open."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def _opening() -> Iterator[tuple[int, int, set[str]]]:
    """Process, worker and open files of each process that opens a dump.

    Its parent is the server that forked it, whose parent is the worker. Only root may see which
    files it has open: none are told to others.
    """
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "comm").read_text() != "vmcorefs-triage\n":
                continue
            worker = parent(parent(int(path.name)))
            files = _files(path / "fd")
        except OSError:
            continue
        yield int(path.name), worker, files


def _files(descriptors: Path) -> set[str]:
    try:
        return set(map(os.readlink, descriptors.iterdir()))
    except PermissionError:
        return set()


def parent(process: int) -> int:
    """The process that a process was started by."""
    status = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(status[1])


def workers_of(command: int) -> list[int]:
    """The workers of a command that has some on this machine, those with a fork server."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "comm").read_text() == "vmcorefs-forks\n":
                found.append(parent(int(path.name)))
        except OSError:
            continue
    return sorted(worker for worker in set(found) if command in _above(worker))


def _above(process: int) -> Iterator[int]:
    while process > 1:
        yield process
        process = parent(process)


def child_of(worker: int, timeout: float = 100) -> int:
    """Wait for the process that opens a dump for a worker."""
    return _wait(lambda its, _: its == worker, timeout)[0]


def child_with(place: str, timeout: float = 100) -> int:
    """Wait for the process that opens the dump at a path."""
    return child_and_parent(place, timeout)[0]


def child_and_parent(place: str, timeout: float = 100) -> tuple[int, int]:
    """Wait until a dump is being opened, and find the worker that has it done too."""
    return _wait(lambda _, files: place in files, timeout)


def worker_in(network: str, timeout: float = 100) -> int:
    """Wait until a dump is being opened in a network namespace, and find the worker that has it."""
    there = os.stat(f"/run/netns/{network}").st_ino
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        for process, worker, _ in _opening():
            with suppress(FileNotFoundError):
                if os.stat(f"/proc/{process}/ns/net").st_ino == there:
                    return worker
        time.sleep(0.002)
    raise AssertionError(f"{network}: nobody opens a dump there")


def is_running(process: int) -> bool:
    """Whether a process is there, and not only its status."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _wait(is_it: Callable[[int, set[str]], bool], timeout: float) -> tuple[int, int]:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        for process, worker, files in _opening():
            if is_it(worker, files):
                return process, worker
        time.sleep(0.002)
    raise AssertionError("nobody opens it")
