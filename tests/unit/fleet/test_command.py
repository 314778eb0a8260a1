"""``vmcorefs triage``, on files that are no dumps: what it says, and where."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmcorefs.cli import main
from vmcorefs.commands import triage as command


def test_a_terminal_has_a_bar_with_the_rate_and_the_time_left(tmp_path: Path) -> None:
    dumps, out, log = tmp_path / "dumps", tmp_path / "out", tmp_path / "log"
    dumps.mkdir()
    for n in range(3):
        (dumps / f"vmcore{n}").write_bytes(bytes(range(256)) * 64)
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 200))
    arguments = ["triage", str(dumps), "-o", str(out), "--processes", "1", "--log", str(log)]
    with subprocess.Popen(
        [sys.executable, "-m", "vmcorefs", *arguments],
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # EIO: nobody has it open any more
            while data := os.read(master, 4096):
                shown += data
        said, _ = process.communicate()
    os.close(master)

    assert process.returncode == 0
    assert "3 dumps, 3 opened now, 3 of them not or not wholly read; 3 rows in 1 groups" in said
    assert b"dumps: 100%" in shown
    assert b"3/3 [" in shown
    assert b"dump/s]" in shown or b"s/dump]" in shown
    for n in range(3):
        line = f"{dumps}/vmcore{n}: failed: no memory map is given"
        assert f"vmcorefs: {line}" in shown.decode()
        assert line in log.read_text()


def test_without_dask_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_NEEDED", ("pyarrow", "no_such_engine"))
    done = CliRunner().invoke(main, ["triage", str(tmp_path), "-o", str(tmp_path / "out")])

    assert done.exit_code == 5
    assert "no_such_engine: not installed: pip install 'vmcorefs[fleet]'" in done.output
    assert not (tmp_path / "out").exists()


def test_an_input_that_is_not_there_leaves_no_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["triage", "/nowhere/at/all", "-o", str(tmp_path / "out")])

    assert done.exit_code == 2
    assert "/nowhere/at/all: cannot be listed" in done.output
