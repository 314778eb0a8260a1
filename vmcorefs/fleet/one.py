"""The function of one dump: what Dask is given to do."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from io import BufferedIOBase
from typing import Final

import msgspec

from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.messages import Request, receive, send
from vmcorefs.fleet.row import VERSION, Answer, Opened, Row
from vmcorefs.system.terminal import printable

_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Each thread of a library takes address space, which is limited, and there is a process a CPU."""
_SERVERS: Final = 2
"""Servers that a dump is given: one may be ended by what it has nothing to do with."""


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
    answer = _ask(dump, limits)
    return make_row(dump, answer, time.monotonic() - started)


def make_row(dump: Dump, answer: Answer, seconds: float = 0) -> Opened:
    """The row of a dump, and its page."""
    row = Row(
        version=VERSION,
        key=dump.key,
        dump=dump.name,
        size=None if dump.size is None else dump.size + sum(one.size or 0 for one in dump.others),
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


def _ask(dump: Dump, limits: Limits) -> Answer:
    places = (os.fsencode(one.place) for one in (dump, *dump.others))
    request = Request(tuple(places), limits.seconds, limits.memory)
    for _ in range(_SERVERS):
        said = _server().ask(msgspec.msgpack.encode(request))
        if said is not None:
            break
        del _of_thread.server
    else:
        return Answer("killed", "what forks the processes that open it was ended, again and again")
    if not said:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    try:
        return msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError as error:
        return Answer("failed", f"a bug: its process has said what is no answer: {error}")


def _server() -> _Server:
    """This thread's own, with which it may talk alone."""
    server: _Server | None = getattr(_of_thread, "server", None)
    if server is None:
        server = _of_thread.server = _Server()
    return server


class _Server:
    """A process that forks others, and ends when nobody refers to this object any more."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vmcorefs.fleet.forkserver"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env=os.environ | _ONE_THREAD,
                start_new_session=True,  # Ctrl-C is for the command, which ends its workers
            )
        with ours:
            self._connection = ours.makefile("rwb")
        self._end = weakref.finalize(self, _end, self._process, self._connection)

    def ask(self, request: bytes) -> bytes | None:
        """What a process says to a request; None if the server has ended."""
        said = None
        try:
            with suppress(ConnectionError):
                send(self._connection, request)
                said = receive(self._connection)
        finally:
            if said is None:
                self._end()
        return said


def _end(server: subprocess.Popen[bytes], connection: BufferedIOBase) -> None:
    server.kill()  # and with it ends the process that it has forked
    server.wait()
    with suppress(OSError):  # what was not written yet
        connection.close()


_of_thread = threading.local()
