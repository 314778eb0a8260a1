"""A dump on another machine: a real sshd, on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders.tiny_dumps import MEMORY, PAGE, TinyFormat, make_dump
from tests.matching import exactly, same_bytes
from tests.mount.machine import make_machine
from tests.save.sshd import Server, serve
from tests.waiting import running, wait_for, wait_for_line
from vmcorefs.errors import ConfigError, DiskFullError, OutputError, StoppedError, UnsupportedError
from vmcorefs.output.ssh import SshTarget
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console, Order, save

LOG = b"[    0.000000] Linux version 6.1.0\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def out(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", server.path)
    return tmp_path / "it's a dump"


def _save(out: Path, write: TinyFormat | None = None, *, force: bool = False) -> Report:
    return save(
        make_dump(),
        LOG,
        Order(f"ssh://there{out}", (0, 31), "flattened", "none", force=force),
        write or TinyFormat(),
        Console(bar=False, say=None, warn=print),
    )


def _names(out: Path) -> list[str]:
    return sorted(name.removeprefix(out.name) for name in os.listdir(out.parent))


def test_a_dump_and_its_log_arrive(out: Path) -> None:
    report = _save(out)
    same_bytes(out.read_bytes(), b"TINY" + MEMORY + b"DONE")
    assert out.with_name(f"{out.name}-dmesg.txt").read_bytes() == LOG
    assert _names(out) == ["", "-dmesg.txt"]
    assert out.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(["sha256sum", str(out)], capture_output=True, text=True, check=True)
    assert report.sha256 == (done.stdout.split()[0].removeprefix("\\"),)


def test_the_command_sends_a_stream_that_makedumpfile_reads(out: Path, tmp_path: Path) -> None:
    directory = tmp_path / "machine"
    directory.mkdir()
    machine = make_machine(directory)
    local, again = tmp_path / "local", tmp_path / "again"
    for place in (f"ssh://there{out}", str(local)):
        done = machine.run("save", *machine.sources, "-o", place, "-d", "1")
        assert done.returncode == 0, done.stderr
    with out.open("rb") as stream:
        subprocess.run(["makedumpfile", "-R", str(again)], stdin=stream, check=True, timeout=60)
    dumps = [bytearray(path.read_bytes()) for path in (local, again)]
    for dump in dumps:
        del dump[408:424]  # the machine told no time of its crash, so it is the saver's
    same_bytes(dumps[0], dumps[1])


def test_what_is_there_is_replaced_only_if_forced(out: Path) -> None:
    out.write_bytes(b"precious")
    with pytest.raises(
        ConfigError, match=exactly(f"ssh://there{out}: exists already; pass --force to replace it")
    ):
        _save(out)
    assert (out.read_bytes(), _names(out)) == (b"precious", [""])
    _save(out, force=True)
    same_bytes(out.read_bytes(), b"TINY" + MEMORY + b"DONE")


def test_a_second_saver_is_refused(out: Path) -> None:
    with closing(SshTarget(f"ssh://there{out}", force=False)) as target:
        target.pwrite(b"dump", 0)
        with pytest.raises(ConfigError, match="incomplete: an earlier try has left it, or another"):
            SshTarget(f"ssh://there{out}", force=False)
        target.sync()
        target.publish()
    assert out.read_bytes() == b"dump"


def test_a_signal_leaves_the_incomplete_name(out: Path) -> None:
    def send(page: int) -> None:
        if page == 16:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="after 15 of 64 pages"):
        _save(out, TinyFormat(send))
    assert _names(out) == ["-dmesg.txt", ".incomplete"]
    same_bytes(out.with_name(f"{out.name}.incomplete").read_bytes(), b"TINY" + MEMORY[: 16 * PAGE])


_DIES = """
import os, sys
from vmcorefs.output.ssh import SshTarget
target = SshTarget(sys.argv[1], force=False)
target.pwrite(b"half", 0)
target._input.flush()
print("sent", flush=True)
sys.stdin.read()
"""


def test_a_saver_that_is_killed_gives_no_name_to_half_a_dump(out: Path) -> None:
    """The other side sees the end of its input, as it does behind a whole dump."""
    command = [sys.executable, "-c", _DIES, f"ssh://there{out}"]
    with running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as saver:
        wait_for_line(saver, "sent")
        saver.kill()
    incomplete = out.with_name(f"{out.name}.incomplete")
    wait_for(lambda: incomplete.read_bytes() == b"half", "half of the dump")
    time.sleep(1)  # for a name that would come behind it
    assert (_names(out), incomplete.read_bytes()) == ([".incomplete"], b"half")


def test_a_dump_that_did_not_arrive_whole_gets_no_name(out: Path) -> None:
    with closing(SshTarget(f"ssh://there{out}", force=False)) as target:
        target.pwrite(b"dump", 0)
        target.sync()
        out.with_name(f"{out.name}.incomplete").write_bytes(b"du")
        with pytest.raises(
            OutputError, match=exactly(f"ssh://there{out}: 4 bytes were sent, but 2 arrived")
        ):
            target.publish()
    assert _names(out) == [".incomplete"]


def test_a_file_that_somebody_makes_there_meanwhile_is_kept(out: Path) -> None:
    with closing(SshTarget(f"ssh://there{out}", force=False)) as target:
        target.pwrite(b"dump", 0)
        target.sync()
        out.write_bytes(b"precious")
        with pytest.raises(OutputError, match="exists"):
            target.publish()
    assert out.read_bytes() == b"precious"


def test_a_full_disk_there_is_told_from_other_errors(out: Path) -> None:
    """Its message is the other side's."""
    disk = out.with_name("disk")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=True)
    try:
        with closing(SshTarget(f"ssh://there{disk}/vmcore", force=False)) as target:
            target.pwrite(bytes(128 << 10), 0)
            with pytest.raises(DiskFullError, match="No space left on device"):
                target.sync()
        assert os.listdir(disk) == ["vmcore.incomplete"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_force_begins_anew_and_follows_no_link(out: Path) -> None:
    victim = out.with_name("victim")
    victim.write_bytes(b"precious")
    out.with_name(f"{out.name}.incomplete").symlink_to(victim)
    _save(out, force=True)
    assert victim.read_bytes() == b"precious"
    same_bytes(out.read_bytes(), b"TINY" + MEMORY + b"DONE")


def test_force_takes_the_file_of_a_saver_that_still_writes(out: Path) -> None:
    with closing(SshTarget(f"ssh://there{out}", force=False)) as first:
        first.pwrite(b"first", 0)
        with closing(SshTarget(f"ssh://there{out}", force=True)) as second:
            second.pwrite(b"the second", 0)
            second.sync()
            first.sync()
            with pytest.raises(OutputError, match="5 bytes were sent, but 10 arrived"):
                first.publish()
            assert _names(out) == [".incomplete"]
            second.publish()
    assert (_names(out), out.read_bytes()) == ([""], b"the second")


def test_the_words_of_ssh_are_passed_on(out: Path) -> None:
    with pytest.raises(OutputError, match=r"^ssh://nobody/.*: .*Permission denied"):
        SshTarget(f"ssh://nobody{out}", force=False)
    with pytest.raises(OutputError, match=r"^ssh://there/.*: .*([Nn]o such file|nonexistent)"):
        SshTarget("ssh://there/none/of/it", force=False)


def test_without_ssh_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="cannot run ssh: No such file or directory"):
        SshTarget("ssh://there/x", force=False)
