"""What triage of many dumps costs: ``python -m bench triage [COUNT [PROCESSES [DIRECTORY]]]``.

COUNT variants of a real dump (300 by default) of as many as 300 distinct crashes, and twenty
poisoned ones besides, are opened by PROCESSES processes (2). On the way a worker is killed, twice,
then Ctrl-C is pressed; the same command goes on; then a hundredth more are added, and it is run
again. Prints the times, the engine's share of them, the memory of each kind of process, and how the
groups compare with what was made. DIRECTORY holds the dumps, and is best on a file system that
shares what they have in common (btrfs, XFS): 10,000 take 1 GiB there, and 113 GiB elsewhere. A
capture is made first if the cache has none.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.fleet.made import more_poison, poison, title_of, variants
from tests.fleet.processes import workers_of
from tests.fleet.variants import Original, Variant, make_original
from tests.lab.capture import cached_capture
from tests.real.conftest import RECIPES

_CRASHES = 300
_SECONDS = 60.0
_STOPPED = 6
_KINDS = {"vmcorefs-triage": "dump", "vmcorefs-forks": "fork server"}


@dataclass
class Run:
    """What a run took.

    Attributes:
        seconds: By the clock.
        processor: Seconds of processor time of all its processes.
        peaks: Most bytes resident of a process, by what it is.
        log: What it said.
    """

    seconds: float = 0.0
    processor: float = 0.0
    peaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    log: str = ""


def main(arguments: list[str]) -> None:
    """Make the dumps, run it three times, and print."""
    count, processes = (*map(int, arguments[:2]), *(300, 2)[len(arguments[:2]) :])
    original = make_original(cached_capture(RECIPES["kexec"]).vmcore)
    with tempfile.TemporaryDirectory(prefix="vmcorefs-bench-", dir=(*arguments, None)[2:][0]) as d:
        dumps, out = Path(d) / "dumps", Path(d) / "out"
        dumps.mkdir()
        crashes = min(_CRASHES, max(count // 3, 1))
        made = list(variants(count, crashes))
        _make(original, made, dumps)
        expected = {name: {one} for name, one in poison(original, dumps).items()}
        expected |= more_poison(original, dumps, _SECONDS)
        print(
            f"{count} dumps of {len(original.data) / 2**20:.1f} MiB, {crashes} crashes,"
            f" {len(expected)} poisoned; {processes} processes; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        run = triage(dumps, out, processes, kills=(count // 50, count // 25), stop=count // 10)
        first = _rows(out)
        _tell("until Ctrl-C, two workers killed", run, first, processes)
        run, rows = triage(dumps, out, processes), _rows(out)
        _tell("and on", run, _without(rows, first), processes)
        _compare(made, expected, rows)
        _make(original, list(variants(count // 100, crashes, count)), dumps)
        run, last = triage(dumps, out, processes), _rows(out)
        _tell(f"{len(last) - len(rows)} new", run, _without(last, rows), processes)
        print(f"each dump that was there is as it was: {_without(rows, last) == []}")
        for name in ("dumps.parquet", "index.html"):
            print(f"{name}: {(out / name).stat().st_size / 2**20:.1f} MiB")


def _make(original: Original, made: list[Variant], dumps: Path) -> None:
    for one in made:
        original.make(one, dumps)


def triage(
    dumps: Path, out: Path, processes: int, *, kills: Sequence[int] = (), stop: int | None = None
) -> Run:
    """Run the command, and watch its processes.

    Args:
        dumps: The directory of the dumps.
        out: That of the table.
        processes: How many open dumps.
        kills: At so many rows a worker is killed.
        stop: At so many rows Ctrl-C is pressed.
    """
    run, left = Run(), list(kills)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "vmcorefs", "triage", str(dumps), "-o", str(out)]
    limits = ["--processes", str(processes), "--timeout", str(_SECONDS)]
    with (out.parent / "log").open("w+") as log:
        with subprocess.Popen([*command, *limits], stderr=log, preexec_fn=_heed_ctrl_c) as p:  # noqa: PLW1509
            while p.poll() is None:
                _watch(p.pid, run)
                time.sleep(0.2)
                done = _count_rows(out / "unfinished.jsonl") if left or stop is not None else 0
                if left and done >= left[0]:
                    os.kill(workers_of(p.pid)[0], signal.SIGKILL)
                    print(f"a worker was killed at {done} rows", flush=True)
                    del left[0]
                if stop is not None and done >= stop:
                    p.send_signal(signal.SIGINT)
                    print(f"Ctrl-C at {done} rows", flush=True)
                    stop = None
        log.seek(0)
        run.log = log.read()
    if p.returncode not in {0, _STOPPED}:
        raise RuntimeError(f"status {p.returncode}: {run.log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    run.seconds = time.monotonic() - started
    run.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return run


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it


def _count_rows(journal: Path) -> int:
    try:
        with journal.open("rb") as file:
            return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return 0


def _watch(command: int, run: Run) -> None:
    """Note the most memory that the command, and each kind of process below it, has had."""
    above: dict[int, int] = {}
    said: dict[int, tuple[str, int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "status").read_text()
        except OSError:
            continue
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        pid = int(path.name)
        above[pid] = int(lines["PPid"])
        if "VmHWM" in lines:
            what = _KINDS.get(lines["Name"], "worker")
            said[pid] = what, int(lines["VmHWM"].split()[0]) << 10
    for pid, (what, peak) in said.items():
        one = pid
        while one in above and one != command:
            one = above[one]
        if one == command:
            kind = "command" if pid == command else what
            run.peaks[kind] = max(run.peaks[kind], peak)


def _rows(out: Path) -> list[dict[str, Any]]:
    columns = ["dump", "outcome", "reason", "seconds", "finished", "group_title"]
    rows: list[dict[str, Any]] = pq.read_table(out / "dumps.parquet", columns=columns).to_pylist()
    return rows


def _without(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of dumps that others lack, or have opened at another time."""
    known = {(row["dump"], row["finished"]) for row in others}
    return [row for row in rows if (row["dump"], row["finished"]) not in known]


def _tell(what: str, run: Run, rows: list[dict[str, Any]], processes: int) -> None:
    inside = sum(row["seconds"] for row in rows)
    share = 1 - inside / (run.seconds * processes)
    print(
        f"{what}: {len(rows)} rows in {run.seconds:.1f} s, {len(rows) / run.seconds:.2f} a second,"
        f" processor {run.processor / max(len(rows), 1):.3f} s a dump, {100 * share:.1f} % of"
        f" {processes} x {run.seconds:.1f} s with no dump; load {os.getloadavg()[0]:.1f}"
    )
    peaks = ", ".join(f"{kind} {peak >> 20}" for kind, peak in sorted(run.peaks.items()))
    print(f"  most MiB resident: {peaks}; {dict(Counter(row['outcome'] for row in rows))}")
    print(f"  the log's last line: {run.log.strip().splitlines()[-1:]}", flush=True)


def _compare(
    made: list[Variant], expected: dict[str, set[str]], rows: list[dict[str, Any]]
) -> None:
    """Say how many dumps are in the group of their crash, and what became of those poisoned."""
    found = {os.path.basename(row["dump"]): row for row in rows}
    title = {name: row["group_title"] for name, row in found.items()}
    made = [one for one in made if one.name in found]  # all, unless somebody pressed Ctrl-C
    titled = [one for one in made if one.has_title]
    right = sum(title[one.name] == title_of(one) for one in titled)
    joined = sum(title[one.name].startswith("kernel panic: ") for one in made if not one.has_title)
    print(
        f"{len(found)} dumps in {len(rows)} rows; {len(set(title.values()))} groups; {right} of"
        f" {len(titled)} with a title in their group; {joined} of {len(made) - len(titled)} without"
        " one in a group of their stack"
    )
    for name, outcomes in expected.items():
        row = found.get(name)
        if row is None:
            continue
        doubt = "" if row["outcome"] in outcomes else f", expected {sorted(outcomes)}"
        print(f"  {name}: {row['outcome']} after {row['seconds']} s{doubt}: {row['reason'][:150]}")
