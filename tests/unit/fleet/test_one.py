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
from tests.fleet.processes import child_of, is_running, parent
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
    (path,) = make_elf(tmp_path, 1_000_000)
    row = triage(path, Limits(0.01, 2 << 30))

    assert (row.outcome, row.reason) == ("timeout", "it took more than 0.01 s")


def test_a_dump_that_takes_too_much_memory(tmp_path: Path) -> None:
    (path,) = make_elf(tmp_path, 1_000_000)
    row = triage(path, Limits(100, 320 << 20))

    assert (row.outcome, row.reason) == ("memory", "it took more memory than it may")


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    (path,) = make_elf(tmp_path, 1_000_000)  # which takes a while
    killer = threading.Thread(target=lambda: os.kill(child_of(os.getpid()), signal.SIGKILL))
    killer.start()
    row = triage(path)
    killer.join()

    assert (row.outcome, row.reason) == ("killed", "its process was ended by SIGKILL")


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """None runs yet."""
    monkeypatch.setattr(one, "_of_thread", threading.local())


@pytest.mark.usefixtures("no_server")
def test_the_server_that_forks_is_ended_and_another_one_begins(tmp_path: Path) -> None:
    (path,) = make_elf(tmp_path, 200_000)
    servers = []

    def kill() -> None:
        servers.append(parent(child_of(os.getpid())))
        os.kill(servers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    row = triage(path)
    killer.join()

    assert row.outcome == "failed"  # it is not a kernel's
    assert one._of_thread.server._process.pid not in servers


@pytest.mark.usefixtures("no_server")
def test_a_server_that_always_ends_costs_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"x")
    monkeypatch.setattr(one.sys, "executable", "/bin/false")  # type: ignore[attr-defined]
    row = triage(path)

    assert row.outcome == "killed"
    assert row.reason == "what forks the processes that open it was ended, again and again"
    assert sys.executable == "/bin/false"


@pytest.mark.usefixtures("no_server")
def test_one_server_opens_dump_after_dump(tmp_path: Path) -> None:
    outcomes, servers = [], set()
    small = tmp_path / "small"
    small.write_bytes(b"x")
    (large,) = make_elf(tmp_path, 1_000_000)
    for path, limits in ((small, LIMITS), (large, Limits(0.01, 2 << 30)), (small, LIMITS)):
        outcomes.append(triage(path, limits).outcome)
        servers.add(one._of_thread.server._process.pid)

    assert outcomes == ["failed", "timeout", "failed"]
    assert len(servers) == 1


@pytest.mark.usefixtures("no_server")
def test_a_server_ends_with_who_asked_it(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"x")
    triage(path)
    server = one._of_thread.server._process.pid
    assert is_running(server)
    del one._of_thread.server
    assert not is_running(server)


def test_nothing_is_imported_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of dumps may be anybody's, and so may a Python file in it."""
    (tmp_path / "msgspec.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "vmcore").write_bytes(bytes(range(256)) * 64)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(one._of_thread, "server", raising=False)
    assert triage(tmp_path / "vmcore").outcome == "failed"  # it is no dump; and not "killed"
