"""The function of one dump: what Dask is given to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

import msgspec

from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.row import VERSION, Answer, Opened, Row
from vmcorefs.system.terminal import printable

_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Each thread of a library takes address space, which is limited, and there is a process a CPU."""
_MERCY: Final = 5.0
"""Seconds that a process has to end once it was killed: one that waits for a dead disk does not."""


class Limits(msgspec.Struct, frozen=True):
    """What a dump may take.

    Attributes:
        seconds: By the clock.
        memory: Bytes of address space.
    """

    seconds: float
    memory: int


def triage_dump(dump: Dump, limits: Limits) -> Opened:
    """Open a dump in a process of its own; there is a row, whatever became of it.

    Raises:
        OSError: if there can be no more processes here.
    """
    started = time.monotonic()
    answer = _ask(dump.place, limits)
    return make_row(dump, answer, time.monotonic() - started)


def make_row(dump: Dump, answer: Answer, seconds: float = 0) -> Opened:
    """The row of a dump, and its page."""
    row = Row(
        version=VERSION,
        key=dump.key,
        dump=dump.name,
        size=dump.size,
        modified=dump.modified,
        etag=printable(dump.etag),
        finished=time.time(),
        seconds=round(seconds, 3),
        outcome=answer.outcome,
        reason=answer.reason,
        calls=answer.calls,
        peak=answer.peak,
        report=answer.report,
    )
    return Opened(msgspec.json.encode(row), answer.page)


def _ask(place: str, limits: Limits) -> Answer:
    command = [sys.executable, "-m", "vmcorefs.fleet.child", str(os.getpid()), str(limits.memory)]
    child = subprocess.Popen(
        [*command, place],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | _ONE_THREAD,
        start_new_session=True,  # Ctrl-C is for the command, which ends its workers
    )
    try:
        said, _ = child.communicate(timeout=limits.seconds)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # it may have another one read over the network
        with suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=_MERCY)
        if isinstance(error, subprocess.TimeoutExpired):
            return Answer("timeout", f"it took more than {limits.seconds:g} s")
        raise
    if child.returncode < 0:
        return Answer("killed", f"its process was ended by {_name(-child.returncode)}")
    try:
        return msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError:
        return Answer("killed", f"its process ended with status {child.returncode} and no answer")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
