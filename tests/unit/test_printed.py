"""What an image, or a file's name, brings to the terminal and to the log: nothing that acts."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.builders.dead_machines import prstatus_note, vmcoreinfo_note, vmcoreinfo_text
from tests.builders.elf_dumps import pack_dump
from tests.builders.kdumps import KEPT, RAM, Kdump
from vmcorefs.cli import main
from vmcorefs.daemon import configure_logging

FORGED = "\x1b[2K\rverified\x9b\u202e"
NAME = b"ram\nwarning: verified\n\x1b[1m\xff\r\xe2\x80\xa8.img"


def hostile_notes() -> bytes:
    text = vmcoreinfo_text(f"6.1.0{FORGED}")
    text = text.replace(b"BUILD-ID=0011", b"BUILD-ID=\x1b]0;title\x07\r11")
    text += b"KERNELOFFSET=\x1b[31m\r0\n"
    return prstatus_note(100, 0x1000, 0x2000) + vmcoreinfo_note(text)


@pytest.fixture(params=["elf", "kdump"])
def dump(tmp_path: Path, request: pytest.FixtureRequest) -> bytes:
    """A dump whose kernel and name were chosen to deceive."""
    data = {
        "elf": lambda: pack_dump(notes=hostile_notes()),
        "kdump": lambda: Kdump(KEPT, RAM, notes=hostile_notes()).pack(),
    }
    path = os.path.join(os.fsencode(tmp_path), NAME)
    with open(path, "wb") as file:
        file.write(data[request.param]())
    return path


def run(*words: str | bytes) -> Result:
    arguments = [word if isinstance(word, str) else os.fsdecode(word) for word in words]
    done = CliRunner().invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def judge(lines: Sequence[str]) -> None:
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert not line.startswith(("warning: verified", "verified")), line


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["inspect"],
        ["estimate"],
        ["extract", "none", "-o", "out"],
        ["report"],
        ["verify"],
    ],
)
def test_a_report_has_nothing_that_acts_on_a_terminal(
    dump: bytes, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words, dump)
    assert done.output
    judge(done.output.split("\n"))


def test_the_release_is_shown_escaped(dump: bytes) -> None:
    for command in ("check", "inspect"):
        assert "Linux 6.1.0\\x1b[2K\\rverified" in run(command, dump).output


def test_a_files_name_is_shown_escaped(dump: bytes) -> None:
    name = r"ram\nwarning: verified\n\x1b[1m\xff\r\u2028.img"
    assert name in run("inspect", dump).output
    missing = run("inspect", dump + b"x")
    assert missing.exit_code == 2
    assert f"{name}x: cannot open" in missing.output


@pytest.mark.parametrize(("command", "where"), [("check", "vmcore"), ("inspect", "vmcoreinfo")])
def test_json_has_the_bytes_as_they_are_but_no_character_that_acts(
    dump: bytes, command: str, where: str
) -> None:
    done = run(command, "--json", dump)
    judge(done.stdout.split("\n"))
    assert done.stdout.isascii()
    assert json.loads(done.stdout)[where]["release"].startswith("6.1.0\x1b[2K\rverified")


def test_what_is_said_while_a_dump_is_saved_has_none_either(dump: bytes, tmp_path: Path) -> None:
    out = os.path.join(os.fsencode(tmp_path), b"out\x1b[1m\n")
    done = run("save", dump, "-o", out)
    assert "sha256" in done.output
    judge(done.output.split("\n"))
    again = run("save", "--json", "--force", dump, "-o", out)
    assert json.loads(again.stdout)["files"][0]["name"] == os.fsdecode(out)
    judge(again.output.split("\n"))


def test_a_word_that_is_no_option_is_quoted_escaped(dump: bytes) -> None:
    done = run("inspect", "--\x1b[1m\nverified", dump)
    assert done.exit_code == 2
    assert "\\x1b[1m\\nverified" in done.output
    judge(done.output.split("\n"))


def test_a_word_too_many_is_quoted_escaped() -> None:
    done = run("config", "check", "one", "two\r\nverified")
    assert done.exit_code == 2
    assert "two\\r\\nverified" in done.output


def test_a_mount_point_is_quoted_escaped(tmp_path: Path) -> None:
    done = run("umount", os.path.join(os.fsencode(tmp_path), NAME))
    assert done.exit_code == 3
    judge(done.output.split("\n"))


def test_the_log_has_a_line_for_each_message(tmp_path: Path) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_logging(str(tmp_path / "log"), background=True)
        log = logging.getLogger("vmcorefs")
        log.info("%s: cannot read", f"ram\n2026-01-01 00:00:00,000 INFO verified{FORGED}")
        error = ValueError("ram\nINFO verified\x1b[1m")
        log.error("a bug in vmcorefs", exc_info=error)
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:], root.level = before, level
    lines = (tmp_path / "log").read_text().split("\n")
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if line and not line.startswith("    ")]) == 2
    assert r"ram\n2026-01-01 00:00:00,000 INFO verified\x1b[2K\rverified\x9b\u202e" in lines[0]
    assert "    INFO verified\\x1b[1m" in lines


def test_what_is_logged_where_no_log_was_asked_for_is_escaped_too(dump: bytes) -> None:
    run("inspect", dump)
    assert logging.lastResort is not None
    record = logging.makeLogRecord({"msg": "version: \x1b[1m\nverified"})
    assert logging.lastResort.format(record) == "vmcorefs: version: \\x1b[1m\\nverified"
