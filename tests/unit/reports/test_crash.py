"""``vmcorefs report``: what the crash in a log, or of an image, is called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from tests.builders.dead_machines import bare_machine
from tests.unit.core.oops.logs import STACK, stamped
from vmcorefs.cli import main
from vmcorefs.core.oops.title import MAX_SHOWN
from vmcorefs.image import MemoryImage
from vmcorefs.reports import crash

TEXT = (
    "BUG: KASAN: slab-use-after-free in frob_read+0x12/0x34\n"
    f"Read of size 8 at addr ffff888012345678 by task frob/7\n{STACK}"
)
LINES = TEXT.splitlines()
KASAN = stamped(TEXT)


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
        "panic": "",
        "lines": LINES,
    }


def test_for_people(tmp_path: Path) -> None:
    assert run("--log", save(tmp_path, KASAN)).stdout.splitlines() == [
        "title: KASAN: slab-use-after-free Read in frob_read",
        "class: KASAN-USE-AFTER-FREE-READ",
        "or: bad-access in frob_read",
        "function: frob_read",
        "panic: none in the log",
        "log: whole",
        "",
        *LINES,
    ]


def test_a_mangled_log_says_why(tmp_path: Path) -> None:
    path = save(tmp_path, KASAN.partition("Call Trace")[0])
    told = report(path)
    assert (told["corrupted"], told["reason"]) == (True, "there is no stack")
    assert "log: mangled: there is no stack" in run("--log", path).stdout.splitlines()


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
        "panic": "",
        "lines": [],
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


def test_a_log_is_not_written_to(tmp_path: Path) -> None:
    path = save(tmp_path, KASAN)
    command = [sys.executable, "-m", "vmcorefs", "report", "--log", str(path)]
    with path.open("ab") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert f"standard output: this is the input {path}" in done.stderr
    assert path.read_text() == KASAN


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
    assert told.title == "KASAN: slab-use-after-free Read in frob_read"
    assert spent < 0.2


def image(log: bytes | None, why: str = "", no_kernel: str = "") -> MemoryImage:
    kernel = None if no_kernel else SimpleNamespace(log=(log, why))
    return cast("MemoryImage", SimpleNamespace(log=log, kernel=kernel, no_kernel=no_kernel))


def test_of_an_image_what_the_kernel_died_of_is_told_and_not_what_came_first() -> None:
    warning = stamped("WARNING: CPU: 1 PID: 7 at lib/frob.c:1 frob_old+0x1/0x2\n" + STACK)
    panic = stamped("Kernel panic - not syncing: frob is gone\n" + STACK)
    told = crash.report_image(image((warning + panic).encode()))
    assert told.title == "kernel panic: frob is gone"
    assert told.panic == "Kernel panic - not syncing: frob is gone"
    assert told.lines[0] == told.panic
    assert crash.report_log((warning + panic).encode()).title == "WARNING in frob_write"


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        (image(None, no_kernel="no VMCOREINFO was found"), "no log: no VMCOREINFO was found"),
        (image(None, "no dmesg: prb is torn"), "no dmesg: prb is torn"),
        (image(None), "no dmesg: VMCOREINFO does not lead to it"),
    ],
)
def test_an_image_without_a_log_says_why(without: MemoryImage, reason: str) -> None:
    told = crash.report_image(without)
    assert (told.title, told.reason, told.panic) == ("", reason, "")
    assert list(crash.format_crash(told)) == [f"title: none: {reason}"]


def test_lines_are_those_of_the_report_in_their_own_encoding() -> None:
    told = crash.report_log("[    1.0] BUG: für\n[    1.0] frob\n".encode() + b"[    1.0] \xff\n")
    assert told.lines == ["BUG: für", "frob", "\\xff"]


def test_the_lines_shown_are_few() -> None:
    told = crash.report_log(KASAN.encode() + b"[   12.345678] RAX: 0\n" * 1000)
    assert len(told.lines) == MAX_SHOWN


@pytest.mark.parametrize(
    "arguments", [[], ["image", "--log", "log"], ["--log", "log", "--verify", "auto"]]
)
def test_either_an_image_or_a_log(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2


def test_an_image(tmp_path: Path) -> None:
    saved = bare_machine().save(tmp_path)
    done = run(saved.ram, "--map", saved.iomem)
    assert done.exit_code == 0, done.output
    assert "no kernel to ask: there is no VMCOREINFO note" in done.stdout
