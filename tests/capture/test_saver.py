"""Saving a small /proc/vmcore: order, completeness, and what happens when it does not work."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.builders.bad_pages import PAGE, bad_pages
from tests.save.full_disk import tmpfs
from vmcorefs.capture.run import saver
from vmcorefs.capture.run.dumps import list_dumps
from vmcorefs.capture.run.saver import check_memory, save
from vmcorefs.capture.settings import (
    DumpSettings,
    FinishSettings,
    KeepSettings,
    Settings,
    TargetSettings,
)
from vmcorefs.errors import DiskFullError, IncompleteError, OutputError, UnsupportedError
from vmcorefs.image import MemoryImage
from vmcorefs.native import pages as native
from vmcorefs.save.dump import Triage


def settings(target: Path, *, kind: str = "kdump", free: str = "1M") -> Settings:
    return Settings(
        target=TargetSettings(directory=str(target)),
        dump=DumpSettings(format=kind),  # type: ignore[arg-type]  # one of its words
        keep=KeepSettings(dumps=2, free=free),
    )


def only(directory: Path) -> Path:
    (dump,) = directory.iterdir()
    return dump


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 18 MiB, 16 of which stay free in any case."""
    with tmpfs(tmp_path / "small", "18M") as path:
        yield path


def test_the_summary_has_the_sum_unless_nobody_wants_it(vmcore: Path, tmp_path: Path) -> None:
    for wanted in (True, False):
        target = TargetSettings(directory=str(tmp_path / str(wanted)))
        save(Settings(target=target, dump=DumpSettings(sha256=wanted)), str(vmcore), print)
        dump = only(tmp_path / str(wanted))
        found = hashlib.sha256((dump / "vmcore").read_bytes()).hexdigest() if wanted else None
        summary = json.loads((dump / "summary.json").read_text())
        assert summary["files"] == [{"name": str(dump / "vmcore"), "sha256": found}]


def test_a_copy_of_proc_vmcore_is_one(vmcore: Path, tmp_path: Path) -> None:
    said: list[str] = []
    saved = save(settings(tmp_path / "crash", kind="vmcore"), str(vmcore), said.append)
    dump = only(tmp_path / "crash")
    assert saved.path == str(dump)
    assert sorted(path.name for path in dump.iterdir()) == ["layout.json", "summary.json", "vmcore"]
    assert filecmp.cmp(dump / "vmcore", vmcore, shallow=False)
    assert json.loads((dump / "summary.json").read_text())["complete"] is True
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in dump.iterdir())
    assert dump.stat().st_mode & 0o777 == 0o700
    assert said[-1].startswith(f"{dump}: complete after ")


def test_a_copy_goes_on_past_what_cannot_be_read(vmcore: Path, tmp_path: Path) -> None:
    held = vmcore.read_bytes()
    page = len(held) // (2 * PAGE)
    with (
        bad_pages(vmcore, page),
        pytest.raises(IncompleteError, match=r": 4096 bytes could not be read; all else is in vm"),
    ):
        save(settings(tmp_path / "crash", kind="vmcore"), str(vmcore), lambda _: None)
    dump = only(tmp_path / "crash")
    at = page * PAGE
    expected = held[:at] + bytes(PAGE) + held[at + PAGE :]
    assert (dump / "vmcore.incomplete").read_bytes() == expected
    assert not (dump / "vmcore").exists()
    summary = json.loads((dump / "summary.json").read_text())
    assert (summary["complete"], summary["lost_bytes"]) == (False, PAGE)
    (lost,) = summary["lost"]
    assert (lost["offset"], lost["size"]) == (at, PAGE)


def test_a_kdump_file_says_what_is_in_it(vmcore: Path, tmp_path: Path) -> None:
    save(settings(tmp_path / "crash"), str(vmcore), lambda _: None)
    dump = only(tmp_path / "crash")
    assert (dump / "vmcore").read_bytes()[:8] == b"KDUMP   "
    summary = json.loads((dump / "summary.json").read_text())
    assert summary["format"] == "kdump"
    assert summary["complete"] is True
    # this machine has no kernel, and no log
    assert (summary["dmesg"], summary["release"]) == (None, None)


def test_a_triage_dump_that_cannot_be_made_does_not_cost_the_dump(
    vmcore: Path, tmp_path: Path
) -> None:
    """This machine has no kernel to ask which pages a report needs."""
    target, said = TargetSettings(directory=str(tmp_path / "crash")), list[str]()
    keep = KeepSettings(free="1M")
    both = Settings(target=target, dump=DumpSettings(level="triage,31"), keep=keep)
    save(both, str(vmcore), said.append)
    dump = only(tmp_path / "crash")
    summary = json.loads((dump / "summary.json").read_text())
    assert (summary["complete"], summary["dump_level"]) == (True, 31)
    assert summary["triage_dump"]["complete"] is False
    assert summary["triage_dump"]["why"].startswith("no triage dump: no kernel to ask")
    assert any(line.startswith("warning: no triage dump: no kernel to ask") for line in said)
    assert not (dump / "vmcore.triage").exists()
    alone = Settings(target=target, dump=DumpSettings(level="triage"), keep=keep)
    with pytest.raises(UnsupportedError, match="no kernel to ask"):
        save(alone, str(vmcore), said.append)


@pytest.mark.parametrize(("level", "seconds"), [("triage,31", 25), ("triage", 100)])
def test_a_triage_dump_has_its_share_of_the_time_and_all_of_it_if_it_is_alone(
    vmcore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, seconds: float
) -> None:
    told: list[float] = []

    def find(_image: MemoryImage, seconds: float) -> Triage:
        told.append(seconds)
        raise UnsupportedError("no triage dump")

    monkeypatch.setattr(saver, "triage_apart", find)
    wanted = Settings(
        target=TargetSettings(directory=str(tmp_path / "crash")),
        dump=DumpSettings(level=level),
        keep=KeepSettings(free="1M"),
        finish=FinishSettings(timeout="100s"),
    )
    with pytest.raises(UnsupportedError) if level == "triage" else nullcontext():
        save(wanted, str(vmcore), lambda _line: None)
    assert told == [seconds]


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_second_crash_at_the_same_time_replaces_nothing(vmcore: Path, tmp_path: Path) -> None:
    """A board without a clock crashes at one time always."""
    crash = tmp_path / "crash"
    first = Path(save(settings(crash), str(vmcore), lambda _: None).path)
    before = files_of(first)
    (first / "vmcore").chmod(0o400)
    second = save(settings(crash), str(vmcore), lambda _: None)
    assert second.path == f"{first}-2"
    assert files_of(first) == before
    assert files_of(Path(second.path)).keys() == before.keys()


def test_a_second_save_that_fails_is_nowhere_said_to_be_complete(
    vmcore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = tmp_path / "crash"
    first = Path(save(settings(crash, kind="vmcore"), str(vmcore), lambda _: None).path)
    before = files_of(first)

    def full(_self: object) -> None:
        raise DiskFullError("no room")

    monkeypatch.setattr("vmcorefs.capture.run.place.LocalPlace.check_room", full)
    with pytest.raises(DiskFullError):
        save(settings(crash, kind="vmcore"), str(vmcore), lambda _: None)
    assert files_of(first) == before
    assert not (crash / f"{first.name}-2" / "summary.json").exists()
    assert [dump.is_complete for dump in list_dumps(str(crash))] == [True, False]


def test_a_target_that_is_not_there_is_no_target(vmcore: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^.*/missing/crash: cannot make the target dir.*$"):
        save(settings(tmp_path / "missing" / "crash"), str(vmcore), lambda _: None)
    assert not (tmp_path / "missing").exists()


def test_a_device_that_does_not_come_is_waited_for_no_longer_than_said(
    vmcore: Path, tmp_path: Path
) -> None:
    target = TargetSettings(filesystem="UUID=no-such-thing", wait=1)
    with pytest.raises(OutputError, match=r"^UUID=no-such-thing: no such device after 1 s .*$"):
        save(Settings(target=target), str(vmcore), lambda _: None)


def test_a_full_target_leaves_no_complete_dump(vmcore: Path, small_disk: Path) -> None:
    with pytest.raises(DiskFullError, match=r"^.*: .* free, and 16 MiB are to stay free .*$"):
        save(settings(small_disk / "crash", kind="vmcore"), str(vmcore), lambda _: None)
    dump = only(small_disk / "crash")
    assert [path.name for path in dump.iterdir()] == ["vmcore.incomplete"]


def test_a_killed_saver_leaves_no_complete_dump(vmcore: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from vmcorefs.capture.run import saver\n"
        "from vmcorefs.capture.settings import *\n"
        "saver._Progress.__call__ = lambda self, *_: os.kill(os.getpid(), 9)\n"
        "target, dump = TargetSettings(directory=sys.argv[1]), DumpSettings(format='vmcore')\n"
        "saver.save(Settings(target=target, dump=dump), sys.argv[2], print)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "crash"), str(vmcore)],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr
    dump = only(tmp_path / "crash")
    assert [path.name for path in dump.iterdir()] == ["vmcore.incomplete"]
    # and the next one has a place of its own
    saved = save(settings(tmp_path / "crash", kind="vmcore"), str(vmcore), lambda _: None)
    assert saved.path == f"{dump}-2"
    assert filecmp.cmp(f"{saved.path}/vmcore", vmcore, shallow=False)


def test_a_file_system_is_mounted_for_the_dump_and_unmounted(
    vmcore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "disk"
    image.touch()
    os.truncate(image, 64 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", image], check=True)
    mountpoint = tmp_path / "mnt"
    monkeypatch.setattr("vmcorefs.capture.run.filesystem.MOUNTPOINT", str(mountpoint))
    monkeypatch.setattr("vmcorefs.capture.run.filesystem.device_path", lambda _: str(image))
    target = TargetSettings(filesystem="UUID=1", directory="/dumps", options="loop")
    save(Settings(target=target, keep=KeepSettings(free="1M")), str(vmcore), lambda _: None)
    assert not os.path.ismount(mountpoint)
    done = subprocess.run(
        ["debugfs", "-R", "ls -p /dumps", image], capture_output=True, text=True, check=True
    )
    names = [line.split("/")[5] for line in done.stdout.splitlines() if line.startswith("/")]
    assert len(names) == 3  # ., .. and the dump


def test_too_little_memory_is_said_before_it_runs_out(tmp_path: Path) -> None:
    meminfo = "MemTotal: 90000 kB\nMemFree: 1000 kB\nMemAvailable: {} kB\n"
    meminfo += "Cached: 0 kB\nBuffers: 0 kB\nShmem: 0 kB\nAnonPages: 0 kB\n"
    path = tmp_path / "meminfo"
    said: list[str] = []
    path.write_text(meminfo.format(65536))
    check_memory(said.append, str(path))
    assert said == []
    path.write_text(meminfo.format(30720))
    check_memory(said.append, str(path))
    check_memory(said.append, str(tmp_path / "none"))
    line, unknown = said
    assert unknown.endswith("none: cannot read: No such file or directory")
    assert line.startswith("warning: 30 MiB of memory are available, and saving takes 64 MiB: ")


def test_saving_needs_no_fuse_and_no_tree(vmcore: Path, tmp_path: Path) -> None:
    path = tmp_path / "vmcorefs.toml"
    path.write_text(f'[target]\ndirectory = "{tmp_path}/crash"\n[keep]\nfree = "1M"\n')
    script = (
        "import sys\n"
        "sys.modules['pyfuse3'] = sys.modules['trio'] = None\n"  # importing them is an error now
        "sys.modules['vmcorefs.tree.build'] = sys.modules['vmcorefs.tree.debug'] = None\n"
        "from vmcorefs.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "capture", "save", "--config", path, "--vmcore", vmcore],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (only(tmp_path / "crash") / "summary.json").exists()


def test_a_codec_that_is_missing_after_the_panic_costs_no_dump(
    vmcore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``vmcorefs config check`` says so before; after it nobody can install anything."""
    monkeypatch.setattr(native, "library_of", lambda _flag: None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    said: list[str] = []
    target = TargetSettings(directory=str(tmp_path / "crash"))
    wanted = Settings(target=target, dump=DumpSettings(codec="zstd"), keep=KeepSettings(free="1M"))
    save(wanted, str(vmcore), said.append)
    summary = json.loads((only(tmp_path / "crash") / "summary.json").read_text())
    assert (summary["complete"], summary["codec"]) == (True, "zlib")
    assert (
        "warning: codec zstd: the Python package zstandard is not installed; pip install"
        " 'vmcorefs[codecs]'; zlib needs no package, and compresses the dump instead"
    ) in said
