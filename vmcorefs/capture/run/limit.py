"""A time limit that does not depend on the thread that it limits.

The unit allows a service two minutes to come up. A thread asks systemd for a little more, again
and again, while the limit lasts (``EXTEND_TIMEOUT_USEC``, sd_notify(3)). Once it is over, or once
this process hangs so badly that the thread no longer runs, systemd ends the service, which is a
failure. Without systemd the thread ends the process itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vmcorefs.system.notify import notify_systemd

_EXTENSION = 60
_INTERVAL = 20
TIMED_OUT = 75
"""The exit status of a process whose time is over: sysexits.h's EX_TEMPFAIL."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Run the body for no longer than ``seconds``; after that the process is ended."""
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(seconds, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(seconds: float, over: threading.Event) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        notify_systemd(f"EXTEND_TIMEOUT_USEC={int(min(_EXTENSION, left + 5) * 1e6)}")
        if over.wait(min(_INTERVAL, left)):
            return
    sys.stderr.write(f"vmcorefs: not done after {seconds:g} s: giving up\n")
    sys.stderr.flush()
    # not sys.exit: the thread that does not get on would be waited for
    os._exit(TIMED_OUT)
