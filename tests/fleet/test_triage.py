"""``vmcorefs triage`` on a fleet: workers that die, dumps that are poison, a second time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.fleet.made import poison, title_of, variants
from tests.fleet.processes import child_and_parent, child_with, is_running
from tests.fleet.variants import HOST, Original, Variant
from tests.real.marks import REAL
from vmcorefs.fleet.table import JOURNAL, TABLE

pytestmark = REAL

LIMITS = ["--timeout", "300", "--processes", "2"]
STOPPED = 6


def start(dumps: Path | str, out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vmcorefs", "triage", str(dumps), "-o", str(out), *LIMITS, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job has Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def end(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    said, log = process.communicate()
    assert process.returncode == status, log
    return said, log


def run(dumps: Path | str, out: Path, *more: str) -> tuple[str, str]:
    return end(start(dumps, out, *more))


def rows(out: Path) -> dict[str, dict[str, Any]]:
    read = pq.read_table(out / TABLE).to_pylist()
    found = {os.path.basename(row["dump"]): row for row in read}
    assert len(found) == len(read)
    return found


@dataclass
class Fleet:
    """What there is, and what came of it."""

    dumps: Path
    out: Path
    made: list[Variant]
    poisoned: dict[str, str]
    log: str


@pytest.fixture(scope="module")
def fleet(original: Original, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A first run, in which one worker is killed, and the process of one dump."""
    dumps, out = tmp_path_factory.mktemp("dumps"), tmp_path_factory.mktemp("out")
    made = list(variants(10, crashes=4))
    for one in made:
        original.make(one, dumps)
    poisoned = poison(original, dumps)
    process = start(dumps, out)
    opening, worker = child_and_parent(str(dumps / made[0].name))
    os.kill(worker, signal.SIGKILL)
    while is_running(opening):  # with its worker it ends too
        time.sleep(0.01)
    os.kill(child_with(str(dumps / made[7].name)), signal.SIGKILL)
    _, log = end(process)
    return Fleet(dumps, out, made, poisoned | {made[7].name: "killed"}, log)


def test_each_dump_has_a_row_whatever_died(fleet: Fleet) -> None:
    outcomes = {name: row["outcome"] for name, row in rows(fleet.out).items()}

    assert outcomes == {one.name: "ok" for one in fleet.made} | fleet.poisoned


def test_rows_say_what_was_made(fleet: Fleet) -> None:
    found = rows(fleet.out)
    for one in fleet.made:
        row = found[one.name]
        if row["outcome"] != "ok":
            continue
        assert row["died_host"] == one.host
        assert row["died_time"] == one.time
        number = re.match("[0-9.-]*[0-9]", row["died_release"])
        assert number is not None
        assert number[0].endswith(one.build)
        assert row["crash_title"] == (title_of(one) if one.has_title else "")
        assert row["calls"][0] == "sysrq_handle_crash"
        assert row["why_task_comm"] == "init"
        assert HOST.decode() not in str(row)


def test_groups_are_those_that_were_made(fleet: Fleet) -> None:
    found = rows(fleet.out)
    read = [one for one in fleet.made if found[one.name]["outcome"] == "ok"]
    titles = {found[one.name]["group_id"]: title_of(one) for one in read if one.has_title}

    assert len(set(titles.values())) == len(titles) == 4
    for one in read:
        row = found[one.name]
        assert row["group_title"] == titles[row["group_id"]]
        if one.has_title:
            assert (row["group_title"], row["group_why"]) == (title_of(one), "its title")
        else:
            assert row["group_why"].startswith("no title: its stack is 1.00 like that of ")


def test_the_log_names_each_dump_that_was_not_read_and_why(fleet: Fleet) -> None:
    found = rows(fleet.out)
    for name, outcome in fleet.poisoned.items():
        (line,) = [line for line in fleet.log.splitlines() if f"/{name}: {outcome}: " in line]
        assert found[name]["reason"].removeprefix(found[name]["dump"]) in line.replace(": :", ":")
    assert len(fleet.log.splitlines()) == len(fleet.poisoned)


def test_each_report_is_there(fleet: Fleet) -> None:
    page = (fleet.out / "index.html").read_text()
    for name, row in rows(fleet.out).items():
        report = next(fleet.out.glob(f"reports/*/{row['key']}.*"), None)
        if row["outcome"] == "ok":
            assert report is not None
            assert row["died_host"] in report.read_text()
            assert str(report.relative_to(fleet.out)) in page
        assert name in page


def test_a_second_run_opens_what_is_new_and_nothing_else(fleet: Fleet, original: Original) -> None:
    before = rows(fleet.out)
    new = list(variants(2, crashes=4, start=len(fleet.made)))
    for one in new:
        original.make(one, fleet.dumps)
    said, log = run(fleet.dumps, fleet.out)
    after = rows(fleet.out)

    assert f"{len(after)} dumps, 2 opened now, 0 of them not" in said
    assert log == ""
    assert after.keys() - before.keys() == {one.name for one in new}
    for name, row in before.items():
        assert after[name] == row

    said, _ = run(fleet.dumps, fleet.out, "--again", "--name", fleet.made[7].name)
    assert "1 dumps, 1 opened now, 0 of them not" in said
    assert rows(fleet.out)[fleet.made[7].name]["outcome"] == "ok"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on(
    number: signal.Signals, original: Original, tmp_path: Path
) -> None:
    dumps, out = tmp_path / "dumps", tmp_path / "out"
    dumps.mkdir()
    made = list(variants(3, crashes=2))
    for one in made:
        original.make(one, dumps)
    process = start(dumps, out)
    while not (out / JOURNAL).exists() or not (out / JOURNAL).stat().st_size:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    ended = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}
    _, log = end(process, ended.get(number, STOPPED))
    if number != signal.SIGKILL:
        assert f"{out}: stopped; " in log
        assert "the same command goes on with the others" in log
        assert log.count("\n") == 1
        assert 0 < len(rows(out)) < len(made)
    done = {row["dump"]: row for row in rows(out).values()} if number != signal.SIGKILL else {}

    said, _ = run(dumps, out)
    found = rows(out)

    assert found.keys() == {one.name for one in made}
    assert f"{len(made)} dumps, {len(made)} opened now" not in said
    for name, row in done.items():
        assert found[os.path.basename(name)]["finished"] == row["finished"]
