"""Dask: who opens which dump, when, and again if its process has died.

https://distributed.dask.org. What is lost with a scheduler is asked for again once there is one.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Final

import dask.config
from distributed import Client, KilledWorker, LocalCluster, as_completed

from vmcorefs.errors import UnsupportedError
from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.one import Limits, make_row, triage_dump
from vmcorefs.fleet.row import Answer, Opened

_log = logging.getLogger(__name__)

_ASKED: Final = 512
"""Dumps that Dask is asked for at a time, or as many a CPU as ``_ASKED_A_CPU``: it keeps workers
from having more than they can do, and a million tasks would still fill the scheduler's memory."""
_ASKED_A_CPU: Final = 4
_RETRIES: Final = 2
_PATIENCE: Final = 300.0
"""Seconds without a scheduler, after which it is not waited for any longer."""
_CONNECT: Final = 10.0
_OURS: Final[dict[str, Any]] = {
    # web pages for whoever is on this machine: none
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # a worker that was killed begins again, which on a machine with much to do takes longer than
    # the 15 s after which Dask would give it up for good
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.comm.timeouts.connect": "300s",
}
"""Settings of Dask for workers on this machine."""


class _LostError(Exception):
    """The scheduler has gone, and with it what it was asked for."""


def run(
    dumps: Iterable[Dump],
    limits: Limits,
    *,
    scheduler: str | None = None,
    processes: int | None = None,
    say: Callable[[str], None] = _log.warning,
) -> Generator[Opened]:
    """Open dumps, and yield a row for each, as they are done.

    Args:
        dumps: Each has a place of its own.
        limits: What each may take.
        scheduler: The address of one whose workers have vmcorefs; None for processes of this
            machine, which nobody else can use.
        processes: How many of those; a CPU each by default.
        say: Told when the scheduler is lost.

    Raises:
        UnsupportedError: if there is no scheduler, or its workers cannot open dumps.
    """
    left = {dump.place: dump for dump in dumps}
    lost: float | None = None
    while left:
        try:
            with _connect(scheduler, processes) as client:
                for dump, row in _ask(client, list(left.values()), limits):
                    del left[dump.place]
                    lost = None
                    yield row
        except (_LostError, OSError) as error:  # distributed's TimeoutError is one
            now = time.monotonic()
            lost = now if lost is None else lost
            if scheduler is None or now - lost > _PATIENCE:
                raise UnsupportedError(f"{scheduler or 'Dask'}: no scheduler: {error}") from error
            say(f"{scheduler}: the scheduler is lost ({error}); {len(left)} dumps wait for it")
            time.sleep(1)


@contextmanager
def _connect(scheduler: str | None, processes: int | None) -> Iterator[Client]:
    if scheduler is not None:
        with Client(scheduler, timeout=_CONNECT, set_as_default=False) as client:
            yield client
        return
    with (
        dask.config.set(_OURS),
        _start(processes) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _start(processes: int | None) -> LocalCluster:
    """Start workers, which end when we do: the terminal's Ctrl-C is for us alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return LocalCluster(
            n_workers=processes or len(os.sched_getaffinity(0)),
            threads_per_worker=1,
            memory_limit=0,  # of the worker, which opens nothing itself
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            security=True,  # whoever can connect to a scheduler has it run anything
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def _ask(client: Client, dumps: list[Dump], limits: Limits) -> Iterator[tuple[Dump, Opened]]:
    """Ask for some of the dumps, and for another whenever one is done."""
    asked: dict[Any, Dump] = {}
    rest = iter(dumps)

    def ask(dump: Dump) -> Any:  # noqa: ANN401  # a distributed.Future
        future = client.submit(triage_dump, dump, limits, pure=False, retries=_RETRIES)
        asked[future.key] = dump
        return future

    cpus = sum(client.nthreads().values())
    done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
    for _, dump in zip(range(max(_ASKED, cpus * _ASKED_A_CPU)), rest, strict=False):
        done.add(ask(dump))
    for future, result in done:
        dump = asked.pop(future.key)
        yield dump, _row(dump, future.status, result)
        another = next(rest, None)
        if another is not None:
            done.add(ask(another))


def _row(dump: Dump, status: str, result: Any) -> Opened:  # noqa: ANN401
    if status == "finished":
        done: Opened = result
        return done
    if status != "error" or isinstance(result, CancelledError):
        raise _LostError(str(result))
    _, error, _ = result
    if isinstance(error, KilledWorker):
        return make_row(dump, Answer("killed", "the workers that opened it died, one by one"))
    raise UnsupportedError(
        f"a worker cannot open dumps: {type(error).__name__}: {error}"
    ) from error
