"""What is made before the dump by a child: whatever becomes of it, the dump is saved.

drgn is not used: it takes more memory than a capture kernel has. The child gets little memory, is
the first to be killed where that runs out, and has some seconds.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
import numpy as np

from vmcorefs.capture.run.dumps import REPORT_JSON, REPORT_TXT
from vmcorefs.errors import UnsupportedError
from vmcorefs.image import MemoryImage
from vmcorefs.save.dump import Triage

T = TypeVar("T")

SECONDS = 60.0
"""Of a report. It takes less than one; a machine whose devices fail may be slow."""
MERCY = 5.0
"""Seconds that it has to end once it was killed."""
MEMORY = 64 << 20
"""Bytes that it may take, beside what this process has already: saving takes as many later."""
MOST = 4 << 20
"""Bytes of both files, at most."""

_WITHOUT_DRGN = (
    "made in the capture kernel, in little memory; `vmcorefs report` says more of the dump"
)
_CHUNK = 64 << 10


def report_apart(image: MemoryImage) -> dict[str, bytes]:
    """The files of a report, by name.

    Raises:
        UnsupportedError: if it cannot be made within the limits; says why.
    """
    text, as_json = _apart("report", lambda: _make_report(image), tuple[bytes, bytes], SECONDS)
    return {REPORT_TXT: text, REPORT_JSON: as_json}


def triage_apart(image: MemoryImage, seconds: float) -> Triage:
    """What a triage dump is to hold.

    Args:
        image: Whose.
        seconds: How long finding that may take.

    Raises:
        UnsupportedError: if it cannot be found within the limits; says why.
    """
    if image.kernel is None:
        raise UnsupportedError(f"no triage dump: no kernel to ask: {image.no_kernel}")
    data, contents = _apart(
        "triage dump", lambda: _find_triage(image), tuple[bytes, dict[str, int]], seconds
    )
    return Triage(np.frombuffer(data, dtype=np.int64).reshape(-1, 2), contents)


def _apart(what: str, make: Callable[[], T], kind: type[T], seconds: float) -> T:
    """What a child of this process makes.

    Raises:
        UnsupportedError: if there is nothing of that kind within the limits; says why.
    """
    theirs, ours = os.pipe()
    with warnings.catch_warnings():
        # since 3.12, where there are threads: here it is that of the time limit, which hardly ever
        # holds a lock; a child that waits for one in vain has its own limit
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(theirs)
        _make(make, ours)
    os.close(ours)
    try:
        data = _read(theirs, what, seconds)
    finally:
        os.close(theirs)
        status = _end(child)
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError:
        how = os.waitstatus_to_exitcode(status) if status is not None else "unknown"
        raise UnsupportedError(f"no {what}: what makes it ended with status {how}") from None


def _end(child: int) -> int | None:
    """Kill a child; its status, or None if it waits for a device and cannot end.

    It is then left alone: the dump does not wait for it.
    """
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    end = time.monotonic() + MERCY
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(0.01)


# in these: the parent does without what they import, and it would stay


def _make_report(image: MemoryImage) -> tuple[bytes, bytes]:
    from vmcorefs.reports.report.files import report_json, report_text  # noqa: PLC0415
    from vmcorefs.reports.report.gather import make_report  # noqa: PLC0415

    report = make_report(image, without_drgn=_WITHOUT_DRGN)
    return report_text(report), report_json(report)


def _find_triage(image: MemoryImage) -> tuple[bytes, dict[str, int]]:
    from vmcorefs.reports.triage.find import find_triage  # noqa: PLC0415

    found = find_triage(image, with_drgn=False)
    return found.pages.tobytes(), dict(found.contents)


def _make(make: Callable[[], object], pipe: int) -> None:
    """Make it, and end this process."""
    try:
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        taken = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (taken, taken))
        made = make()
        with os.fdopen(pipe, "wb") as file:
            file.write(msgspec.msgpack.encode(made))
        os._exit(0)
    except BaseException:  # noqa: BLE001  # the stack below is the parent's
        os._exit(1)


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _read(pipe: int, what: str, seconds: float) -> bytes:
    data, end = bytearray(), time.monotonic() + seconds
    while len(data) <= MOST:
        ready, _, _ = select.select([pipe], [], [], max(end - time.monotonic(), 0))
        if not ready:
            raise UnsupportedError(f"no {what}: it was not made within {seconds:g} s")
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return bytes(data)
        data += chunk
    raise UnsupportedError(f"no {what}: it has more than {MOST >> 20} MiB")
