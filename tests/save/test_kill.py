"""A saver that is killed at any moment: what is there says what it is, and can be gone on from."""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.matching import same_bytes
from tests.save.driver import LOG, NAME, PAGES, make_memory, run
from tests.waiting import running, wait_for

_PAGES = Path(__file__).with_name("kdump_pages.py")
_CALLS = ("flock", "pwrite64", "fsync", "renameat2", "rename")
_INCOMPLETE_FLAG = 0x8
_STATUS_OFFSET = 424
"""Of ``status`` in a 64-bit ``struct disk_dump_header`` (makedumpfile: diskdump_mod.h)."""


def _command(directory: Path) -> list[str]:
    return [sys.executable, "-m", "tests.save.driver", str(directory / NAME)]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed.

    Attributes:
        dump: What it wrote.
        calls: The system calls that it made to that end, in order.
        seconds: How long it took from its first file to its last name.
        memory: A file of the memory that is saved.
    """

    dump: bytes
    calls: tuple[str, ...]
    seconds: float
    memory: Path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    directory = tmp_path_factory.mktemp("undisturbed")
    memory = directory / "memory"
    memory.write_bytes(make_memory())
    trace = directory / "trace"
    strace = ["strace", "-f", "-ttt", "-o", str(trace), "-e", f"trace={','.join(_CALLS)}"]
    subprocess.run(
        [*strace, *_command(directory)], check=True, timeout=60, stdout=subprocess.DEVNULL
    )
    found = re.findall(r"^\d+ +([0-9.]+) (\w+)\(", trace.read_text(), re.MULTILINE)
    seconds = float(found[-1][0]) - float(found[0][0])
    calls = tuple(call for _time, call in found)
    return Undisturbed((directory / NAME).read_bytes(), calls, seconds, memory)


def _moments(calls: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Each call by its name and how many of that name there were up to it."""
    seen: Counter[str] = Counter()
    for call in calls:
        seen[call] += 1
        yield call, seen[call]


def _has_begun(directory: Path) -> bool:
    return any(directory.iterdir())


def _check_what_is_left(directory: Path, undisturbed: Undisturbed) -> None:
    """Whatever is there says what it is, to its name and to its readers."""
    dump, incomplete = directory / NAME, directory / f"{NAME}.incomplete"
    log = directory / f"{NAME}-dmesg.txt"
    if log.exists():
        assert log.read_bytes() == LOG
    if dump.exists():
        same_bytes(dump.read_bytes(), undisturbed.dump)
        assert not incomplete.exists()
        assert log.exists()
        return
    if not incomplete.exists():
        assert not log.exists()  # nothing had begun
        return
    left = incomplete.read_bytes()
    assert left == b"" or log.exists(), "a page before the log"
    if len(left) < _STATUS_OFFSET + 4:
        return  # no tool takes it for a dump
    (status,) = struct.unpack_from("<I", left, _STATUS_OFFSET)
    done = subprocess.run(
        ["/usr/bin/python3", str(_PAGES), str(incomplete), str(undisturbed.memory)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    judged = json.loads(done.stdout)
    assert judged.get("wrong", 0) == 0, judged
    if not status & _INCOMPLETE_FLAG:
        assert judged == {"opened": True, "right": PAGES}


def _resume(directory: Path, undisturbed: Undisturbed) -> int:
    """Go on from what is there, and count the pages that were not written again."""
    report = run(str(directory / NAME), resume=True)
    same_bytes((directory / NAME).read_bytes(), undisturbed.dump)
    assert (directory / f"{NAME}-dmesg.txt").read_bytes() == LOG
    assert sorted(path.name for path in directory.iterdir()) == [NAME, f"{NAME}-dmesg.txt"]
    return report.resumed


def test_a_kill_at_any_system_call_leaves_nothing_that_lies(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    assert set(undisturbed.calls) == {"flock", "pwrite64", "fsync", "renameat2"}
    resumed = []
    for number, (call, count) in enumerate(_moments(undisturbed.calls)):
        directory = tmp_path / str(number)
        directory.mkdir()
        inject = f"inject={call}:signal=KILL:when={count}"
        done = subprocess.run(
            ["strace", "-f", "-o", "/dev/null", "-e", inject, *_command(directory)],
            check=False,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )
        assert done.returncode == -9, (call, count)
        _check_what_is_left(directory, undisturbed)
        if not (directory / NAME).exists():
            resumed.append(_resume(directory, undisturbed))
    assert resumed[0] == 0
    assert max(resumed) > PAGES // 2, "nothing was gone on from"


def test_a_kill_at_a_random_moment_leaves_nothing_that_lies(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    chance = random.Random(5)  # noqa: S311  # a test is to be the same each time
    for number in range(8):
        directory = tmp_path / str(number)
        directory.mkdir()
        with running(_command(directory), stdout=subprocess.DEVNULL) as saver:
            wait_for(partial(_has_begun, directory), "file", saver)
            time.sleep(chance.uniform(0, undisturbed.seconds))
            saver.kill()
        _check_what_is_left(directory, undisturbed)
        if not (directory / NAME).exists():
            _resume(directory, undisturbed)


def test_a_name_is_given_between_two_syncs(undisturbed: Undisturbed) -> None:
    """What a power cut leaves is in the order of the syncs alone (rename(2), fsync(2))."""
    log = ("flock", "flock", "pwrite64", "fsync", "renameat2", "fsync")
    assert undisturbed.calls[: len(log)] == log
    # the pages, then the header that says that all are there, then the name, then the directory
    end = ("pwrite64", "fsync", "pwrite64", "fsync", "renameat2", "fsync")
    assert undisturbed.calls[-len(end) :] == end
