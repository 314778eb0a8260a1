"""The log on a disk that is full."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tests.matching import exactly
from vmcorefs.errors import ConfigError
from vmcorefs.system.logfile import LogFile


def test_lines_that_could_not_be_written_are_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    handler = LogFile(str(path))
    room = [True, False, False, True, True]
    write = os.write

    def limited(descriptor: int, data: bytes) -> int:
        if not room.pop(0):
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", limited)
    for number in range(5):
        handler.handle(logging.makeLogRecord({"msg": f"line {number}"}))
    monkeypatch.undo()
    handler.close()
    assert path.read_text().splitlines() == [
        "line 0",
        "2 lines of this log could not be written",
        "line 3",
        "line 4",
    ]


def test_a_line_that_was_cut_stays_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    handler = LogFile(str(path))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:4]))
    handler.handle(logging.makeLogRecord({"msg": "a long line"}))
    monkeypatch.undo()
    handler.handle(logging.makeLogRecord({"msg": "next"}))
    handler.close()
    assert path.read_text() == "a lo\n1 line of this log could not be written\nnext\n"


def test_a_log_that_cannot_be_opened_is_a_mistake_of_the_users(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot open the log: No such file"):
        LogFile(str(tmp_path / "nowhere" / "log"))


def test_a_log_into_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: cannot open the log: No such device or address"):
        LogFile(str(tmp_path / "pipe"))


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_new_log_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        LogFile(str(tmp_path / "log")).close()
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_there_keeps_its_mode_and_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    path.chmod(0o640)
    handler = LogFile(str(path))
    handler.handle(logging.makeLogRecord({"msg": "after"}))
    handler.close()
    assert path.read_text() == "before\nafter\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_device_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = os.open

    def watched(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append(flags & ~(os.O_PATH | os.O_CLOEXEC) if not flags & os.O_PATH else -1)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", watched)
    with pytest.raises(
        ConfigError, match=exactly("/dev/zero: a character device, expected a file for the log")
    ):
        LogFile("/dev/zero")
    assert opened == [-1]
    monkeypatch.undo()
    LogFile("/dev/null").close()


def test_a_log_by_a_link_to_nowhere_makes_the_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("log")
    LogFile(str(tmp_path / "link")).close()
    assert (tmp_path / "log").exists()
