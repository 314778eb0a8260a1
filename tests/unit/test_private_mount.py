"""Where ``vmcorefs gdb`` and the like mount, and what happens before there is anything to run."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from vmcorefs.commands.private_mount import _directory, _kept_signals
from vmcorefs.errors import UnsupportedError


def test_the_directory_is_its_owners_alone_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    before = os.umask(0)
    try:
        with _directory() as directory:
            assert Path(directory).parent == tmp_path
            assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_directory_that_is_not_there_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    with _directory() as directory:
        assert not directory.startswith(str(tmp_path))


def test_a_signal_that_came_before_the_program_keeps_it_from_starting(tmp_path: Path) -> None:
    with _kept_signals() as program:
        os.kill(os.getpid(), signal.SIGTERM)
        assert program.run(["touch", str(tmp_path / "started")]) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_program_does_not_inherit_what_this_process_ignores() -> None:
    script = "import signal, sys; sys.exit(signal.getsignal(signal.SIGQUIT) is not signal.SIG_DFL)"
    with _kept_signals() as program:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGQUIT)
        assert program.run([sys.executable, "-c", script]) == 0


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    with (
        _kept_signals() as program,
        pytest.raises(UnsupportedError, match="cannot start it: No such file or directory"),
    ):
        program.run([str(tmp_path / "none")])
