"""``vmcorefs report --log``: what a log's crash is called."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.core.oops.logs import STACK, stamped
from vmcorefs.cli import main
from vmcorefs.reports import crash

KASAN = stamped(
    "BUG: KASAN: slab-use-after-free in frob_read+0x12/0x34\n"
    "Read of size 8 at addr ffff888012345678 by task frob/7\n" + STACK
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def report(path: Path) -> dict[str, Any]:
    done = run("--log", path, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def save(directory: Path, log: str | bytes) -> Path:
    path = directory / "log"
    path.write_bytes(log.encode() if isinstance(log, str) else log)
    return path


def test_for_programs(tmp_path: Path) -> None:
    assert report(save(tmp_path, KASAN)) == {
        "title": "KASAN: slab-use-after-free Read in frob_read",
        "alternatives": ["bad-access in frob_read"],
        "class": "KASAN-USE-AFTER-FREE-READ",
        "function": "frob_read",
        "corrupted": False,
        "reason": "",
    }


def test_for_people(tmp_path: Path) -> None:
    assert run("--log", save(tmp_path, KASAN)).stdout.splitlines() == [
        "title: KASAN: slab-use-after-free Read in frob_read",
        "class: KASAN-USE-AFTER-FREE-READ",
        "or: bad-access in frob_read",
        "function: frob_read",
        "log: whole",
    ]


def test_a_mangled_log_says_why(tmp_path: Path) -> None:
    path = save(tmp_path, KASAN.partition("Call Trace")[0])
    told = report(path)
    assert (told["corrupted"], told["reason"]) == (True, "there is no stack")
    assert run("--log", path).stdout.splitlines()[-1] == "log: mangled: there is no stack"


@pytest.mark.parametrize("log", ["", "[    1.0] frob: up\n", "\0\xff"])
def test_no_crash_is_no_error(tmp_path: Path, log: str) -> None:
    path = save(tmp_path, log)
    assert report(path) == {
        "title": "",
        "alternatives": [],
        "class": "",
        "function": "",
        "corrupted": False,
        "reason": "no crash is reported in the log",
    }
    assert run("--log", path).stdout == "title: none: no crash is reported in the log\n"


def test_what_a_log_says_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    path = save(tmp_path, b"BUG: frob \x1b[2J\xe2\x80\xae\x9b31m\x07 end\n")
    for arguments in ((), ("--json",)):
        shown = run("--log", path, *arguments).stdout
        assert shown.isascii()
        assert all(one.isprintable() or one == "\n" for one in shown)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
        done = run("--log", path)
        assert done.exit_code == 2
        assert str(path) in done.stderr


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash, "MAX_LOG", 1 << 20)
    path = save(tmp_path, b"\n" * (1 << 20))
    assert run("--log", path).exit_code == 0
    path = save(tmp_path, b"\n" * ((1 << 20) + 1))
    done = run("--log", path)
    assert done.exit_code == 4
    assert "more than 1 MiB" in done.stderr


def test_a_log_of_a_mebibyte_takes_no_time() -> None:
    line = "[   12.345678][    T7] usb 1-1: new high-speed USB device number 2 using frob\n"
    log = (KASAN.replace("] ", "][    T7] ") + line * ((1 << 20) // len(line))).encode()
    started = time.process_time()
    told = crash.report_log(log)
    spent = time.process_time() - started
    assert told["title"] == "KASAN: slab-use-after-free Read in frob_read"
    assert spent < 0.2
