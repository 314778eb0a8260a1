"""A scheduler of Dask and its workers, as an administrator starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Worker:
    """A worker that is to be.

    Attributes:
        host: Where it finds the scheduler.
        within: What it is run by, such as ``ip netns exec NAME``.
        environment: More variables of it.
        nanny: Whether another process begins it again when it is killed.
    """

    host: str = "127.0.0.1"
    within: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    nanny: bool = False


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def cluster(port: int, workers: Sequence[Worker] = (Worker(), Worker())) -> Iterator[str]:
    """Run a scheduler and workers until the end of the ``with`` statement, where all are killed.

    Args:
        port: Of the scheduler, on every address.
        workers: Its workers, of one thread each.
    """
    scheduler = ["dask_scheduler", "--port", str(port), "--no-dashboard", "--host", "0.0.0.0"]  # noqa: S104
    running = [_start(scheduler)]
    try:
        for worker in workers:
            options = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
            options += ["--nanny" if worker.nanny else "--no-nanny"]
            address = f"tcp://{worker.host}:{port}"
            running.append(_start(["dask_worker", *options, address], worker))
        yield f"tcp://127.0.0.1:{port}"
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _start(command: Sequence[str], worker: Worker = Worker()) -> subprocess.Popen[bytes]:
    module, *arguments = command
    return subprocess.Popen(
        [*worker.within, sys.executable, "-m", f"distributed.cli.{module}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | worker.environment,
    )
