"""The report, made before the dump by a child: whatever becomes of it, the dump is saved.

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
from contextlib import suppress

import msgspec

from vmcorefs.capture.run.dumps import REPORT_JSON, REPORT_TXT
from vmcorefs.errors import UnsupportedError
from vmcorefs.image import MemoryImage

SECONDS = 60.0
"""It takes less than one; a machine whose devices fail may be slow."""
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
    theirs, ours = os.pipe()
    with warnings.catch_warnings():
        # since 3.12, where there are threads: here it is that of the time limit, which hardly ever
        # holds a lock; a child that waits for one in vain has its own limit
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(theirs)
        _make(image, ours)
    os.close(ours)
    try:
        data = _read(theirs)
    finally:
        os.close(theirs)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    try:
        text, as_json = msgspec.msgpack.decode(data, type=tuple[bytes, bytes])
    except msgspec.DecodeError:
        how = os.waitstatus_to_exitcode(status)
        raise UnsupportedError(f"no report: what makes it ended with status {how}") from None
    return {REPORT_TXT: text, REPORT_JSON: as_json}


def _make(image: MemoryImage, pipe: int) -> None:
    """Make it, and end this process."""
    try:
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        taken = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (taken, taken))
        # here: the parent does without, and what is imported there stays
        from vmcorefs.reports.report.files import report_json, report_text  # noqa: PLC0415
        from vmcorefs.reports.report.gather import make_report  # noqa: PLC0415

        report = make_report(image, without_drgn=_WITHOUT_DRGN)
        made = report_text(report), report_json(report)
        with os.fdopen(pipe, "wb") as file:
            file.write(msgspec.msgpack.encode(made))
        os._exit(0)
    except BaseException:  # noqa: BLE001  # the stack below is the parent's
        os._exit(1)


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _read(pipe: int) -> bytes:
    data, end = bytearray(), time.monotonic() + SECONDS
    while len(data) <= MOST:
        ready, _, _ = select.select([pipe], [], [], max(end - time.monotonic(), 0))
        if not ready:
            raise UnsupportedError(f"no report: it was not made within {SECONDS:g} s")
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return bytes(data)
        data += chunk
    raise UnsupportedError(f"no report: it has more than {MOST >> 20} MiB")
