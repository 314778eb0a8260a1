"""Every fault, and the planes that it is tried in: the rows of docs/faults.md, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Way:
    """How the file that the readers read is served.

    Attributes:
        plane: What ``layout.json`` calls it.
        option: What follows ``-o``.
        is_one_run: The file is the whole of one input.
    """

    plane: str
    option: str
    is_one_run: bool = False


WAYS = {
    "kernel, one run": Way("kernel", "plane=kernel", is_one_run=True),
    "kernel, composite": Way("kernel", "plane=kernel"),
    "mapped": Way("mapped", "plane=mapped"),
    "mapped, direct I/O": Way("mapped", "direct_io"),
    "plain": Way("plain", "plane=plain"),
}
ALL = tuple(WAYS)
BY_KERNEL, BY_DAEMON = ALL[:2], ALL[2:]

CASES: dict[str, tuple[str, ...]] = {
    "image truncated": ALL,
    "image replaced": ALL,
    "image removed": ALL,
    "image written to": ("kernel, composite", "mapped"),
    "bad sector under a file": ALL,
    "bad sector of a block device": BY_DAEMON,
    "image that hangs": ALL,
    "image that hangs, to many readers": ("mapped", "plain"),
    "image that hangs, when a file is opened": ("mapped",),
    "kernel with a request timeout": ("plain",),
    "disk of the log full": ("plain",),
    "daemon has no memory left": ALL,
    "daemon in a small memory cgroup": ("mapped",),
    "daemon stopped for a while": ALL,
    "daemon stopped for good": ("mapped",),
    "daemon killed": ALL,
    "daemon has no descriptors left": ("kernel, composite",),
}


def planes(fault: str) -> pytest.MarkDecorator:
    """Run a test in each plane of a fault; it takes ``fault`` and ``way``."""
    return pytest.mark.parametrize(
        ("fault", "way"), [pytest.param(fault, way, id=way) for way in CASES[fault]]
    )


REQUEST_TIMEOUT = Path("/proc/sys/fs/fuse/max_request_timeout")

needs_request_timeouts = pytest.mark.skipif(
    not REQUEST_TIMEOUT.exists(),
    reason="a kernel before Linux 6.15 ends no request by itself, so this fault cannot be made;"
    ' what then holds, readers that wait until the daemon goes on, is "daemon stopped for a while"',
)
