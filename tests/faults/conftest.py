"""Fixtures: a machine that is mounted by one plane, and the table that a test's row belongs to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.cases import CASES
from tests.faults.scene import Scene, make_scene
from tests.faults.table import DOCUMENT, Row, read_rows, write_rows
from tests.mount.machine import make_machine
from vmcorefs.fuse.mounts import find_mount

WRITES = bool(os.environ.get("VMCOREFS_FAULTS_TABLE"))
_made: list[Row] = []


@pytest.fixture
def scene(tmp_path: Path, way: str) -> Iterator[Scene]:
    machine = make_machine(tmp_path)
    with ExitStack() as stack:
        try:
            yield make_scene(machine, way, stack)
        finally:
            stack.close()
            while find_mount(str(machine.mountpoint)) is not None:
                subprocess.run(["umount", "-l", str(machine.mountpoint)], check=True)


@pytest.fixture
def holds(fault: str, way: str) -> Callable[..., None]:
    """Makes a row, and holds the document to it; ``./run faults-table`` writes it instead."""
    before = _waited_for_cpu()

    def check(  # the columns
        injected: str, reader: str, log: str, *, time: float, limit: float, recovered: str
    ) -> None:
        # what keeps this process waiting for a CPU keeps the daemon waiting too
        assert time <= limit + _waited_for_cpu() - before
        row = Row(fault, way, injected, reader, log, f"{time:.2g} s, limit {limit:g} s", recovered)
        if WRITES:
            _made.append(row)
            return
        rows = {known.key: known for known in read_rows(DOCUMENT.read_text())}
        assert row.key in rows, "./run faults-table makes the row"
        assert row.claims == rows[row.key].claims

    return check


def _waited_for_cpu() -> float:
    """Seconds that this thread could have run and did not (Documentation/scheduler/sched-stats)."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def pytest_sessionfinish() -> None:
    if not WRITES or not _made:
        return
    text = DOCUMENT.read_text()
    rows = {row.key: row for row in [*read_rows(text), *_made]}
    order = [(fault, way) for fault, ways in CASES.items() for way in ways]
    DOCUMENT.write_text(write_rows(text, [rows[key] for key in order if key in rows]))
