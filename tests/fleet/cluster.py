"""A scheduler of Dask and its workers, as an administrator starts them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def cluster(port: int, workers: int = 2, within: Sequence[Sequence[str]] = ()) -> Iterator[str]:
    """Run a scheduler and workers until the end of the ``with`` statement; nothing is cleaned up.

    Args:
        port: Of the scheduler, on every address.
        workers: How many.
        within: What each worker is run by, such as ``ip netns exec NAME``.
    """
    address = f"tcp://127.0.0.1:{port}"
    python = [sys.executable, "-m"]
    here = [*python, "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard"]
    there = [*python, "distributed.cli.dask_worker", "--nthreads", "1", "--memory-limit", "0"]
    running = [_start([*here, "--host", "0.0.0.0"])]  # noqa: S104  # a test's own, for a minute
    try:
        for number in range(workers):
            by = within[number] if within else ()
            where = ["--no-dashboard", "--no-nanny", by[-1] if by else address]
            running.append(_start([*by[:-1], *there, *where]))
        yield address
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
