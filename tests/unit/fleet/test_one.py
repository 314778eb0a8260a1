"""A dump costs its row, whatever it does to the process that opens it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from tests.builders.many import make_elf
from tests.fleet.processes import child_of
from vmcorefs.fleet import one
from vmcorefs.fleet.listing import Dump
from vmcorefs.fleet.one import Limits, triage_dump
from vmcorefs.fleet.row import VERSION, Row

LIMITS = Limits(100, 2 << 30)


def triage(path: Path, limits: Limits = LIMITS) -> Row:
    dump = Dump(str(path), path.stat().st_size, 1.0)
    return msgspec.json.decode(triage_dump(dump, limits).row, type=Row)


def test_what_is_no_dump_says_why(tmp_path: Path) -> None:
    path = tmp_path / "vmcore\n\x1b"
    path.write_bytes(bytes(range(256)) * 64)
    row = triage(path)

    assert row.outcome == "failed"
    assert "no VMCOREINFO note" in row.reason
    assert row.dump == f"{tmp_path}/vmcore\\n\\x1b"
    assert (row.version, row.size, row.report) == (VERSION, 16384, None)


def test_a_dump_that_takes_too_long(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"x")
    row = triage(path, Limits(0.01, 2 << 30))

    assert (row.outcome, row.reason) == ("timeout", "it took more than 0.01 s")


def test_a_dump_that_takes_too_much_memory(tmp_path: Path) -> None:
    (path,) = make_elf(tmp_path, 1_000_000)
    row = triage(path, Limits(100, 320 << 20))

    assert (row.outcome, row.reason) == ("memory", "it took more memory than it may")


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"x")
    killer = threading.Thread(
        target=lambda: os.kill(child_of(os.getpid(), str(path)), signal.SIGKILL)
    )
    killer.start()
    row = triage(path)
    killer.join()

    assert (row.outcome, row.reason) == ("killed", "its process was ended by SIGKILL")


def test_a_process_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"x")
    monkeypatch.setattr(one.sys, "executable", "/bin/false")  # type: ignore[attr-defined]
    row = triage(path)

    assert (row.outcome, row.reason) == ("killed", "its process ended with status 1 and no answer")
    assert sys.executable == "/bin/false"
