"""Files that a user names: what is read, and what is refused before it is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.matching import exactly
from vmcorefs.errors import ConfigError
from vmcorefs.system.files import describe, may_hold_memory, open_regular, read_file


def test_a_file_is_read_and_one_that_is_longer_shows(tmp_path: Path) -> None:
    (tmp_path / "map").write_bytes(b"0123456789")
    assert read_file(str(tmp_path / "map"), "a map", 10) == b"0123456789"
    assert read_file(str(tmp_path / "map"), "a map", 4) == b"01234"


def test_a_pipe_without_a_name_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"00000000-00000fff : System RAM\n")
    os.close(writing)
    assert read_file(f"/dev/fd/{reading}", "a map", 100) == b"00000000-00000fff : System RAM\n"
    os.close(reading)


def test_what_is_no_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (str(tmp_path / "pipe"), "pipe"),
        (str(tmp_path), "directory"),
        ("/dev/null", "character device"),
    ):
        expected = f"{path}: a {what}, expected a file with a map"
        with pytest.raises(ConfigError, match=exactly(expected)):
            read_file(path, "a map", 100)
        with pytest.raises(ConfigError, match=exactly(f"{path}: a {what}, expected a vmlinux")):
            open_regular(path, "a vmlinux")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(
        ConfigError, match=exactly(f"{path}: cannot read a map: No such file or directory")
    ):
        read_file(path, "a map", 100)
    with pytest.raises(ConfigError, match=exactly(f"{path}: no such file, expected a vmlinux")):
        open_regular(path, "a vmlinux")


def test_what_a_device_is_called_tells_whether_it_holds_memory() -> None:
    nowhere = os.makedev(4095, 1)
    assert may_hold_memory("/dev/mem", os.makedev(1, 1))
    assert not may_hold_memory("/dev/port", os.makedev(1, 4))
    assert may_hold_memory("/dev/crash", nowhere)
    assert not may_hold_memory("/dev/watchdog", nowhere)
    assert not may_hold_memory("/dev/crash", os.makedev(5, 0))  # sysfs says that it is tty


def test_every_kind_of_file_has_a_name() -> None:
    kinds = (stat.S_IFREG, stat.S_IFBLK, stat.S_IFSOCK)
    assert [describe(kind) for kind in kinds] == ["file", "block device", "socket"]
