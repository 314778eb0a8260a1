"""Which dumps are found, and by what they are known again."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from vmcorefs.errors import ConfigError
from vmcorefs.fleet.listing import Dump, find_dumps
from vmcorefs.fleet.one import make_row
from vmcorefs.fleet.row import Answer


def names(found: list[Dump]) -> list[str]:
    return [os.path.basename(dump.place) for dump in found]


def test_all_files_of_a_directory_but_those_that_lie_beside_dumps(tmp_path: Path) -> None:
    crash = tmp_path / "127.0.0.1-2026-11-30"
    crash.mkdir()
    for name in ("vmcore", "vmcore-dmesg.txt", "vmcore.incomplete", "vmcore.sha256", "dmesg.1"):
        (crash / name).write_bytes(b"x")
    (tmp_path / "dump.1").write_bytes(b"xy")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("absent")

    found = find_dumps([str(tmp_path)], "elsewhere")

    assert names(found) == ["dump.1", "vmcore"]
    assert found[0].size == 2
    assert names(find_dumps([str(tmp_path)], "elsewhere", ["vm*"])) == ["vmcore"]


def test_a_file_that_is_named_is_taken_whatever_its_name_and_once(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"x")

    assert names(find_dumps([str(path), str(path)], "elsewhere")) == ["notes.txt"]


def test_the_output_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dumps.parquet").write_bytes(b"x")
    (tmp_path / "vmcore").write_bytes(b"x")

    assert names(find_dumps([str(tmp_path)], str(tmp_path / "out"))) == ["vmcore"]


def test_what_is_not_there_or_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", "pipe"):
        with pytest.raises(ConfigError, match=name):
            find_dumps([str(tmp_path / name)], "elsewhere")


def test_a_dump_that_was_changed_is_another(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"x")
    (before,) = find_dumps([str(path)], "elsewhere")
    (same,) = find_dumps([str(path)], "elsewhere")
    os.utime(path, (1, 1))
    (after,) = find_dumps([str(path)], "elsewhere")

    assert same.key == before.key
    assert after.key != before.key
    assert Dump("a", 1, 1.0, "etag").key != Dump("a", 1, 1.0, "other").key


def test_a_store_is_listed_with_what_it_tells() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/fleet/host-1/vmcore", b"abc")
    store.pipe("/fleet/host-1/vmcore.sha256", b"sum")
    try:
        (dump,) = find_dumps(["memory://fleet"], "elsewhere")
        assert dump.place == "memory://fleet/host-1/vmcore"
        assert dump.size == 3
        (alone,) = find_dumps([dump.place], "elsewhere")
        assert alone == dump
        with pytest.raises(ConfigError, match="memory://absent: nothing is there"):
            find_dumps(["memory://absent"], "elsewhere")
    finally:
        store.rm("/fleet", recursive=True)


def test_a_password_is_not_kept() -> None:
    dump = Dump("ssh://me:secret@host/var/crash/vmcore", 1, 1.0)

    assert dump.name == "ssh://me:***@host/var/crash/vmcore"
    assert b"secret" not in make_row(dump, Answer("failed", "x")).row
