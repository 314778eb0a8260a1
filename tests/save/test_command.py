"""The command ``save``, on a small machine, and on disks that fail."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vmcorefs
from tests.apart import apart
from tests.mount.machine import LOW_END, LOW_START, RAM_END, Machine
from tests.waiting import PATIENCE, running
from vmcorefs.output.local import LocalTarget

_JUDGE = Path(__file__).with_name("kdump_pages.py")
_NOT_RAM = 0x1 + 0x60 + 0x100 + 0x400
"""Pages that ``machine.IOMEM`` does not show: page 0, up to 1 MiB, the crash kernel, PCI."""
_RAM = RAM_END // 4096 - _NOT_RAM


@pytest.fixture
def memory(machine: Machine) -> Path:
    """What the machine's memory was, as ``make_machine`` says; what of a page is no RAM is 0."""
    words = np.arange(0, RAM_END, 8, dtype="<u8")
    words[LOW_START // 8 : LOW_END // 8] |= np.uint64(1 << 63)
    words[LOW_END // 8 : 0xA0000 // 8] = 0
    path = machine.directory / "memory"
    words.tofile(path)
    return path


def _judge(dump: Path, memory: Path) -> dict[str, Any]:
    command = ["/usr/bin/python3", str(_JUDGE), str(dump), str(memory)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    judged: dict[str, Any] = json.loads(done.stdout)
    return judged


def _save(machine: Machine, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run("save", *machine.sources, "-o", str(out), *options)


def _traced(machine: Machine, out: Path, inject: str, *options: str) -> list[str]:
    strace = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={inject}"]
    return [*strace, *machine.command("save", *machine.sources, "-o", str(out), *options)]


@pytest.fixture
def out(machine: Machine) -> Path:
    directory = machine.directory / "crash"
    directory.mkdir()
    return directory / "vmcore"


def test_a_dump_holds_what_the_machine_held(machine: Machine, memory: Path, out: Path) -> None:
    done = _save(machine, out)
    assert done.returncode == 0, done.stderr
    assert _judge(out, memory) == {"opened": True, "right": _RAM, "error": _NOT_RAM}
    assert done.stdout == ""
    assert f"sha256  {hashlib.sha256(out.read_bytes()).hexdigest()}  {out}" in done.stderr
    assert f"\nkernel                {_RAM}           0\n" in done.stderr
    # the machine has no VMCOREINFO, so neither is known
    assert "warning: cannot tell what pages were used for" in done.stderr
    assert "warning: the kernel's log was not found" in done.stderr


def test_json_is_one_object(machine: Machine, out: Path) -> None:
    done = _save(machine, out, "--json", "--codec", "none", "--dump-level", "0")
    report = json.loads(done.stdout)
    assert report["complete"] is True
    assert report["files"] == [
        {"name": str(out), "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    ]
    assert (report["format"], report["codec"], report["dump_level"]) == ("kdump", "none", 0)
    assert report["pages"]["kernel"] == {"kept": _RAM, "left_out": 0}
    assert report["memory_bytes"] == _RAM * 4096
    assert report["dump_bytes"] == out.stat().st_size
    assert (report["lost_bytes"], report["lost"]) == (0, [])


@pytest.mark.parametrize("format_", ["kdump", "elf"])
def test_the_sum_can_be_left_out(machine: Machine, out: Path, format_: str) -> None:
    done = _save(machine, out, "--no-sha256", "--format", format_)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"dump    {out}"
    done = _save(machine, out, "--no-sha256", "--format", format_, "--force", "--json")
    assert json.loads(done.stdout)["files"] == [{"name": str(out), "sha256": None}]


def test_a_dump_without_its_sum_is_not_read_again(machine: Machine, out: Path) -> None:
    trace = machine.directory / "trace"
    for option, again in (("--sha256", True), ("--no-sha256", False)):
        strace = ["strace", "-f", "-y", "-e", "trace=pread64,preadv,preadv2", "-o", str(trace)]
        saving = machine.command("save", *machine.sources, "-o", str(out), "--force", option)
        subprocess.run([*strace, *saving], check=True, capture_output=True)
        assert (f"<{out}>" in trace.read_text()) == again


def test_quiet_says_no_more_than_warnings(machine: Machine, out: Path) -> None:
    done = _save(machine, out, "--quiet")
    assert [line for line in done.stderr.splitlines() if "warning: " not in line] == []
    assert done.stdout == ""


def test_an_existing_file_is_replaced_only_if_forced(machine: Machine, out: Path) -> None:
    out.write_bytes(b"precious")
    done = _save(machine, out)
    assert done.returncode == 2
    assert f"vmcorefs: {out}: exists already; pass --force to replace it" in done.stderr
    assert out.read_bytes() == b"precious"
    assert _save(machine, out, "--force").returncode == 0
    assert out.read_bytes().startswith(b"KDUMP   ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-d", "32"], "dump level '32': expected 0 to 31"),
        (["-d", "16,"], "dump level '': expected 0 to 31"),
        (["--format", "elf", "--codec", "zstd"], "an ELF core holds pages as they are"),
        (["--format", "elf", "--resume"], "--resume is for --format kdump"),
        (["--format", "elf", "--split", "2"], "--split is for kdump files of this machine"),
        (["--triage", "-d", "31"], "--dump-level is not for --triage"),
        (["--triage", "--split", "2"], "--split is not for --triage"),
        (["--triage", "--resume"], "--resume is not for --triage"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    machine: Machine, out: Path, options: list[str], words: str
) -> None:
    done = _save(machine, out, *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert os.listdir(out.parent) == []


def test_a_pipe_takes_no_kdump_file_and_no_json(machine: Machine) -> None:
    for options, words in (
        (["--format", "kdump"], "standard output takes bytes in order only"),
        (["--json"], "standard output takes the dump, so --json has no place"),
    ):
        done = machine.run("save", *machine.sources, "-o", "-", *options)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stdout == ""


def test_a_terminal_is_refused(machine: Machine) -> None:
    ours, terminal = os.openpty()
    done = subprocess.run(
        machine.command("save", *machine.sources, "-o", "-"),
        stdout=terminal, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "standard output is a terminal: name a file, or use a pipe\n" in done.stderr
    os.close(terminal)
    with pytest.raises(OSError, match="Input/output error"):  # nothing was written
        os.read(ours, 1)
    os.close(ours)


def test_a_pipe_gets_what_makedumpfile_turns_into_the_same_file(
    machine: Machine, out: Path
) -> None:
    assert _save(machine, out, "-d", "1").returncode == 0
    again = out.with_name("again")
    save = machine.command("save", *machine.sources, "-o", "-", "-d", "1")
    with running(save, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as saver:
        done = subprocess.run(
            ["makedumpfile", "-R", str(again)], stdin=saver.stdout, check=False, timeout=60
        )
        said = saver.communicate(timeout=60)[1]
    assert (saver.returncode, done.returncode) == (0, 0), said
    dumps = [bytearray(path.read_bytes()) for path in (out, again)]
    for dump in dumps:
        del dump[408:424]  # the machine told no time of its crash, so it is the saver's
    assert dumps[0] == dumps[1]


def test_a_pipe_that_closes_is_an_error(machine: Machine) -> None:
    save = machine.command("save", *machine.sources, "-o", "-", "--codec", "none")
    with running(save, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="latin-1") as saver:
        assert saver.stdout is not None
        assert saver.stdout.read(12) == "makedumpfile"
        saver.stdout.close()
        said = saver.communicate(timeout=PATIENCE)[1]
    assert saver.returncode == 6
    assert "vmcorefs: standard output: cannot write: Broken pipe" in said


def test_an_elf_dump_is_read_back_as_what_the_machine_held(
    machine: Machine, memory: Path, out: Path
) -> None:
    assert _save(machine, out, "--format", "elf", "-d", "0").returncode == 0
    held, again = memory.read_bytes(), machine.directory / "again"
    done = machine.run("extract", "oldmem", str(out), "-o", str(again))
    assert done.returncode == 0, done.stderr
    found = again.read_bytes()
    for start, end in ((0x1000, 0x9FC00), (0x100000, 0x400000), (0x500000, 0x800000)):
        assert found[start:end] == held[start:end]
    assert found[0x400000:0x500000] == bytes(1 << 20)


def test_what_cannot_be_read_is_listed_and_all_else_is_saved(
    machine: Machine, memory: Path, out: Path
) -> None:
    """A real EIO: of a mount whose image lacks a mebibyte."""
    ram = machine.directory / "ram"
    pieces = [f"{ram}@0+0xd00000", f"{ram}@0xe00000:0xe00000+0x200000"]
    sources = ["--truncated", *machine.sources[:-1], *pieces]
    done = machine.run("mount", "--log", str(machine.log), *sources, str(machine.mountpoint))
    assert done.returncode == 0, done.stderr
    machine.expected_log.append("no input holds")
    iomem, lowmem = machine.directory / "iomem", machine.directory / "lowmem"
    with vmcorefs.open(ram, memory_map=iomem, backup=lowmem) as whole:
        expected = whole["oldmem"].pread(1 << 30, 0)
    image = ["--map", str(machine.directory / "iomem"), str(machine.mountpoint / "oldmem")]
    done = machine.run("save", *image, "-o", str(out), "--json")
    copied = machine.run("extract", "oldmem", *image, "-o", str(machine.directory / "copy"))
    machine.run("umount", str(machine.mountpoint))
    copy = machine.directory / "copy.incomplete"
    assert copied.returncode == 6
    assert f"{copy}: 1 MiB could not be read and are zeros there, first" in copied.stderr
    held = copy.read_bytes()
    assert held == expected[:0xD00000] + bytes(1 << 20) + expected[0xE00000:]
    assert done.returncode == 6
    report = json.loads(done.stdout)
    assert report["complete"] is False
    assert report["lost_bytes"] == 1 << 20
    (lost,) = report["lost"]
    assert (lost["paddr"], lost["size"]) == (0xD00000, 1 << 20)
    assert "Input/output error" in lost["reason"]
    incomplete = out.with_name("vmcore.incomplete")
    assert report["files"][0]["name"] == str(incomplete)
    assert not out.exists()
    assert f"vmcorefs: {incomplete}: 1 MiB could not be read and are not in the dump" in done.stderr
    assert _judge(incomplete, memory) == {
        "opened": True,
        "right": _RAM - 0x100,
        "error": _NOT_RAM + 0x100,
    }


def test_a_full_disk_leaves_an_incomplete_dump_that_opens(
    machine: Machine, memory: Path, out: Path
) -> None:
    kept = machine.directory / "kept"
    command = machine.command(
        "save", *machine.sources, "-o", str(out), "--codec", "none", "--quiet"
    )
    # a mount namespace of its own: the file system goes away with it
    script = 'd=$1; to=$2; shift 2; mount -t tmpfs -o size=6m none "$d"; "$@"; s=$?; \
        ls "$d"; cp "$d"/*.incomplete "$to"; exit $s'
    done = subprocess.run(
        [*apart(), "sh", "-c", script, "sh", str(out.parent), str(kept), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 6
    assert (
        f"vmcorefs: {out}: cannot write: No space left on device; {out}.incomplete is kept"
        in done.stderr
    )
    assert done.stdout.split() == ["vmcore.incomplete"]
    judged = _judge(kept, memory)
    assert judged["opened"]
    assert judged["right"] > _RAM // 3
    assert judged["right"] + judged["error"] == _RAM + _NOT_RAM


def test_a_signal_stops_it_and_says_how_to_go_on(machine: Machine, memory: Path, out: Path) -> None:
    command = _traced(machine, out, "pwrite64:signal=TERM:when=6", "--codec", "none")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 6
    assert f"vmcorefs: {out}: stopped by SIGTERM after " in done.stderr
    how_to_go_on = (
        f" %); what is written keeps the name {out}.incomplete; the same command with --resume"
        " continues it"
    )
    assert how_to_go_on in done.stderr
    assert os.listdir(out.parent) == ["vmcore.incomplete"]
    judged = _judge(out.with_name("vmcore.incomplete"), memory)
    assert judged["right"] > 0
    assert judged.get("wrong", 0) == 0
    done = _save(machine, out, "--codec", "none", "--resume")
    assert done.returncode == 0, done.stderr
    assert _judge(out, memory) == {"opened": True, "right": _RAM, "error": _NOT_RAM}


def test_a_second_saver_is_refused_and_does_the_first_no_harm(machine: Machine, out: Path) -> None:
    with closing(LocalTarget(str(out), force=False)) as first:
        first.pwrite(b"dump", 0)
        for options in ([], ["--force"], ["--resume"]):
            done = _save(machine, out, *options)
            assert done.returncode == 2
            assert f"vmcorefs: {out}.incomplete: another process is writing it" in done.stderr
        first.sync()
        first.publish()
    assert (out.read_bytes(), os.listdir(out.parent)) == (b"dump", ["vmcore"])
