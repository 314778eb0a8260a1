"""A file of this machine: its name, its lock, and what it is not to replace."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.matching import exactly
from vmcorefs.errors import ConfigError, DiskFullError, OutputError
from vmcorefs.output.local import LocalTarget


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "vmcore"


def _incomplete(out: Path) -> Path:
    return out.with_name("vmcore.incomplete")


def _open(out: Path, *, force: bool = False, resume: bool = False) -> LocalTarget:
    return LocalTarget(str(out), force=force, resume=resume)


def _finish(target: LocalTarget) -> None:
    target.sync()
    target.publish()


def test_it_has_its_name_only_when_it_is_published(out: Path) -> None:
    with closing(_open(out)) as target:
        target.pwrite(b"45", 4)
        target.pwrite(b"0123", 0)
        assert (out.exists(), _incomplete(out).read_bytes()) == (False, b"012345")
        target.sync()
        assert not out.exists()
        target.publish()
        assert (out.read_bytes(), _incomplete(out).exists()) == (b"012345", False)
    assert out.stat().st_mode & 0o777 == 0o600


def test_an_existing_file_is_refused_and_kept(out: Path) -> None:
    out.write_bytes(b"precious")
    with pytest.raises(
        ConfigError, match=exactly(f"{out}: exists already; pass --force to replace it")
    ):
        _open(out)
    assert (out.read_bytes(), _incomplete(out).exists()) == (b"precious", False)


def test_a_dangling_link_counts_as_existing(out: Path) -> None:
    out.symlink_to("nowhere")
    with pytest.raises(ConfigError, match="exists already"):
        _open(out)


def test_an_existing_file_is_replaced_if_forced_and_not_before_the_new_one_is_whole(
    out: Path,
) -> None:
    out.write_bytes(b"old")
    with closing(_open(out, force=True)) as target:
        target.pwrite(b"new", 0)
        assert out.read_bytes() == b"old"
        _finish(target)
    assert out.read_bytes() == b"new"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_replaced_though_it_is_forced(out: Path, make: object) -> None:
    assert callable(make)
    make(out)
    with pytest.raises(
        ConfigError,
        match=exactly(f"{out}: exists and is not a regular file, so it is not replaced"),
    ):
        _open(out, force=True)


def test_a_file_that_somebody_makes_meanwhile_is_kept(out: Path) -> None:
    with closing(_open(out)) as target:
        target.pwrite(b"dump", 0)
        target.sync()
        out.write_bytes(b"precious")
        with pytest.raises(
            OutputError,
            match=exactly(
                f"{out}: another process has made it meanwhile; {_incomplete(out)} is complete"
            ),
        ):
            target.publish()
    assert (out.read_bytes(), _incomplete(out).read_bytes()) == (b"precious", b"dump")


def test_what_an_earlier_try_left_is_refused_unless_one_says_what_to_do(out: Path) -> None:
    _incomplete(out).write_bytes(b"half")
    with pytest.raises(
        ConfigError,
        match=exactly(
            f"{_incomplete(out)}: an earlier try has left it; pass --resume to continue it,"
            " or --force to start over"
        ),
    ):
        _open(out)
    assert _incomplete(out).read_bytes() == b"half"
    with closing(_open(out, resume=True)) as target:
        assert (target.present, target.pread(9, 1), target.warning) == (4, b"alf", None)
    with closing(_open(out, force=True)) as target:
        assert (target.present, target.pread(9, 0)) == (0, b"")


def test_what_was_written_before_the_machine_was_started_is_not_gone_on_from(out: Path) -> None:
    _incomplete(out).write_bytes(b"half")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    written = time.time() - uptime - 60
    os.utime(_incomplete(out), (written, written))
    with closing(_open(out, resume=True)) as target:
        assert target.present == 0
        assert target.warning is not None
        assert "this machine has been rebooted since it was written" in target.warning


def test_a_second_saver_is_refused_whatever_it_says(out: Path) -> None:
    with closing(_open(out)) as target:
        target.pwrite(b"dump", 0)
        for options in ({}, {"force": True}, {"resume": True}):
            with pytest.raises(
                ConfigError, match=exactly(f"{_incomplete(out)}: another process is writing it")
            ):
                _open(out, **options)
        assert _incomplete(out).read_bytes() == b"dump"
        _finish(target)
    assert out.read_bytes() == b"dump"


def test_a_saver_that_waited_while_another_finished_is_refused(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has opened what is now the other's whole file: writing there would spoil it."""
    _incomplete(out).write_bytes(b"dump")
    really_open = os.open

    def slow_open(path: str, flags: int, *mode: int) -> int:
        descriptor = really_open(path, flags, *mode)
        out.with_name("vmcore.incomplete").rename(out)
        return descriptor

    with monkeypatch.context() as patched:  # no longer than this: pytest's tidying opens as well
        patched.setattr(os, "open", slow_open)
        with pytest.raises(ConfigError, match="another process has just written it"):
            _open(out, resume=True)
    assert out.read_bytes() == b"dump"


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_the_place_of_the_incomplete_file_is_not_written_through(
    out: Path, tmp_path: Path, link: object
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    assert callable(link)
    link(_incomplete(out), victim)
    with pytest.raises((ConfigError, OutputError)):
        _open(out, force=True)
    assert victim.read_bytes() == b"precious"


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none" / "vmcore"
    with pytest.raises(
        OutputError, match=exactly(f"{path}: cannot write: No such file or directory")
    ):
        _open(path)


def test_a_file_that_was_never_written_goes_away(out: Path) -> None:
    _open(out).close()
    assert not _incomplete(out).exists()


def test_an_empty_file_of_an_earlier_try_has_nothing_to_be_lost(out: Path) -> None:
    _incomplete(out).touch()
    with closing(_open(out)) as target:
        target.pwrite(b"dump", 0)
        _finish(target)
    assert out.read_bytes() == b"dump"


@pytest.mark.parametrize("path", ["", "crash/"])
def test_a_name_that_names_no_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of a file"):
        LocalTarget(path, force=False)


def test_an_empty_file_of_an_earlier_try_is_not_ours_to_remove(out: Path) -> None:
    _incomplete(out).touch()
    _open(out, resume=True).close()
    assert _incomplete(out).exists()


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_is_an_error_of_its_own_and_keeps_what_is_there(out: Path) -> None:
    with closing(_open(out)) as target, _largest_file(6):
        target.pwrite(b"0123", 0)
        with pytest.raises(
            DiskFullError,
            match=exactly(f"{out}: cannot write: File too large; {_incomplete(out)} is kept"),
        ):
            target.pwrite(b"4567", 4)
    assert (out.exists(), _incomplete(out).read_bytes()) == (False, b"012345")


@pytest.mark.parametrize("offsets", [(0, 3), (3, 0)])
def test_the_sum_is_of_the_file_in_whatever_order_it_was_written(
    out: Path, offsets: tuple[int, int]
) -> None:
    with closing(_open(out)) as target:
        for offset in offsets:
            target.pwrite(b"abc", offset)
        _finish(target)
        done = subprocess.run(["sha256sum", str(out)], capture_output=True, text=True, check=True)
        assert target.sha256(lambda: None) == done.stdout.split()[0]


def test_the_sum_is_of_what_is_in_the_file_after_it_was_cut(out: Path) -> None:
    with closing(_open(out)) as target:
        target.pwrite(b"wrong", 0)
        target.truncate(0)
        target.pwrite(b"abc", 0)
        # FIPS 180-2, appendix B.1
        assert target.sha256(lambda: None) == (
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )


@pytest.mark.parametrize("head", [b"head", b"HEAD"])
def test_the_sum_of_a_file_with_a_foreseen_head(out: Path, head: bytes) -> None:
    with closing(_open(out)) as target:
        target.foresee(b"head")
        target.pwrite(b"....", 0)
        target.pwrite(b"abc", 4)
        target.pwrite(b"def", 100_000)  # behind a hole
        target.pwrite(head, 0)
        _finish(target)
        assert target.sha256(lambda: None) == hashlib.sha256(out.read_bytes()).hexdigest()


def test_the_holes_of_what_an_earlier_try_has_left_are_not_taken_for_zeros(out: Path) -> None:
    _incomplete(out).write_bytes(b"x" * 8)
    with closing(_open(out, resume=True)) as target:
        target.foresee(b"head")
        target.pwrite(b"head", 0)
        target.pwrite(b"abc", 6)
        _finish(target)
        assert target.sha256(lambda: None) == hashlib.sha256(b"headxxabc").hexdigest()
