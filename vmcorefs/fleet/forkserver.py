"""Forks a process for each dump, out of one that has imported all that they need.

``python -m vmcorefs.fleet.forkserver`` reads a ``Request`` from standard input, and writes an
``Answer`` in JSON to standard output, again and again; each behind its length. It decodes nothing
of a dump itself. What the process of a dump has made of its kernel is kept for those that come
after, by all that it was made of: it is the same for them, or they do not find it.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import time
from contextlib import suppress
from functools import cache
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from vmcorefs.confine import process
from vmcorefs.fleet.child import open_and_tell
from vmcorefs.fleet.messages import Request, Said, receive, send
from vmcorefs.fleet.row import Answer
from vmcorefs.sources.remote import fetch, file
from vmcorefs.system.urls import is_elsewhere

_CHUNK: Final = 1 << 20
_LATER: Final = (
    "vmcorefs.reports.report.walk.walk",
    "vmcorefs.kernel.debug.debug_vmlinux",
    "vmcorefs.sources.dumps.diskdump",
    "vmcorefs.sources.dumps.placed.xen",
)
"""What is imported only where it is needed, and may be missing."""
_KEPT: Final = 128 << 20
"""Bytes that are kept; a kernel takes some 15 MiB."""
_MOST: Final = 512 << 20
"""Bytes of what a process says, at most."""
_MERCY: Final = 5.0
"""Seconds that a process has to end once it was killed: one that waits for a dead disk does not."""


def main() -> None:
    """Serve until nobody asks any more."""
    process.forbid_dumps()
    process.name_process("vmcorefs-forks")
    # what a library prints is no answer
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b", buffering=0) as nothing:
        requests = os.fdopen(os.dup(0), "rb")
        for number in (0, 1):
            os.dup2(nothing.fileno(), number)
    for name in _LATER:
        with suppress(ImportError):
            importlib.import_module(name)
    file.start_fetch = fetch.fork
    gc.collect()
    gc.freeze()  # pages are shared with the processes as long as nobody writes to them
    kept: dict[bytes, bytes] = {}
    while (asked := receive(requests)) is not None:
        request = msgspec.msgpack.decode(asked, type=Request)
        _prepare(os.fsdecode(request.places[0]))
        said = _open(request, kept, requests.fileno())
        send(answers, said.answer)
        kept |= said.made
        while sum(map(len, kept.values())) > _KEPT:
            del kept[next(iter(kept))]


@cache
def _import_store(scheme: str) -> None:
    with suppress(Exception):  # opening a dump says what is wrong with it
        importlib.import_module("fsspec").get_filesystem_class(scheme)


def _prepare(place: str) -> None:
    """Import what reads a store, which takes longer than reading a dump there."""
    if is_elsewhere(place):
        _import_store(urlsplit(place).scheme.lower())


def _open(request: Request, kept: dict[bytes, bytes], requests: int) -> Said:
    """Have a process open a dump; it says nothing, if there can be no more processes here."""
    try:
        ours, theirs = os.pipe()
        parent, child = os.getpid(), os.fork()
    except OSError:
        return Said(b"")
    if not child:
        os.setsid()  # it may have another one read over the network, which ends with it
        fetch.keep_open([theirs])
        open_and_tell(request, kept, parent, theirs)
    os.close(theirs)
    said = _listen(ours, requests, time.monotonic() + request.seconds)
    os.close(ours)
    with suppress(OSError):  # its session may not be there yet, or it may have ended
        os.kill(child, signal.SIGKILL)
        os.killpg(child, signal.SIGKILL)
    status = _wait(child)
    if said is None:
        return _without_answer("timeout", f"it took more than {request.seconds:g} s")
    if status is not None and status < 0:
        return _without_answer("killed", f"its process was ended by {_name(-status)}")
    try:
        return msgspec.msgpack.decode(said, type=Said)
    except msgspec.DecodeError:
        return _without_answer("killed", f"its process ended with status {status} and no answer")


def _listen(answer: int, requests: int, end: float) -> bytes | None:
    """All that a process says; None if it takes too long, or nobody wants to know any more.

    Of what has more than ``_MOST`` bytes, which no answer has, that is what came so far.
    """
    parts: list[bytes] = []
    ready = select.poll()
    ready.register(answer, select.POLLIN)
    ready.register(requests, 0)  # tells when nobody asks any more
    while (left := end - time.monotonic()) > 0 and sum(map(len, parts)) <= _MOST:
        for number, _ in ready.poll(left * 1000):
            if number == requests:
                return None
            part = os.read(answer, _CHUNK)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return b"".join(parts) if left > 0 else None


def _wait(child: int) -> int | None:
    """The status of a process that ends; None if it does not."""
    end = time.monotonic() + _MERCY
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


def _without_answer(outcome: Literal["timeout", "killed"], reason: str) -> Said:
    return Said(msgspec.json.encode(Answer(outcome, reason)))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    main()
