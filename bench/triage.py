"""What triage of many dumps costs: ``python -m bench triage [COUNT [PROCESSES]]``.

COUNT variants of a real dump (300 by default) of as many as 300 distinct crashes, and poisoned ones
besides, are opened by PROCESSES processes (2); then again with a tenth more. Prints the time, the
engine's share of it, the memory of each kind of process, and how the groups compare with what was
made. A capture is made first if the cache has none.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.fleet.made import poison, title_of, variants
from tests.fleet.variants import Original, Variant, make_original
from tests.lab.capture import cached_capture
from tests.real.conftest import RECIPES

_CRASHES = 300


@dataclass
class Run:
    """What a run took.

    Attributes:
        seconds: By the clock.
        processor: Seconds of processor time of all its processes.
        peaks: Most bytes resident of a process, by what it is.
    """

    seconds: float = 0.0
    processor: float = 0.0
    peaks: dict[str, int] = field(default_factory=dict)


def main(arguments: list[str]) -> None:
    """Make the dumps, run it twice, and print."""
    count, processes = (*map(int, arguments), *(300, 2)[len(arguments) :])
    original = make_original(cached_capture(RECIPES["kexec"]).vmcore)
    with tempfile.TemporaryDirectory(prefix="vmcorefs-bench-") as directory:
        dumps, out = Path(directory) / "dumps", Path(directory) / "out"
        dumps.mkdir()
        crashes = min(_CRASHES, max(count // 3, 1))
        made = list(variants(count, crashes))
        size = _make(original, made, dumps)
        poisoned = poison(original, dumps)
        print(
            f"{count} dumps of {size / count / 2**20:.1f} MiB, {crashes} crashes, {len(poisoned)}"
            f" poisoned; {processes} processes; load {os.getloadavg()[0]:.1f}"
        )
        _tell("first run", triage(dumps, out, processes), _rows(out), processes)
        _compare(made, _rows(out))
        before = len(_rows(out))
        _make(original, list(variants(count // 10, crashes, count)), dumps)
        run, rows = triage(dumps, out, processes), _rows(out)
        _tell(f"{len(rows) - before} new", run, rows[before:], processes)
        table = out / "dumps.parquet"
        page = out / "index.html"
        print(f"table {table.stat().st_size >> 10} KiB, page {page.stat().st_size >> 10} KiB")


def _make(original: Original, made: list[Variant], dumps: Path) -> int:
    return sum(original.make(one, dumps).stat().st_size for one in made)


def triage(dumps: Path, out: Path, processes: int) -> Run:
    """Run the command, and watch its processes."""
    run = Run()
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "vmcorefs", "triage", str(dumps), "-o", str(out)]
    with subprocess.Popen(
        [*command, "--processes", str(processes)], stderr=subprocess.DEVNULL
    ) as p:
        while p.poll() is None:
            _watch(p.pid, run)
            time.sleep(0.2)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    run.seconds = time.monotonic() - started
    run.processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return run


def _watch(command: int, run: Run) -> None:
    """Note the most memory that the command, and each kind of process below it, has had."""
    above: dict[int, int] = {}
    said: dict[int, tuple[str, int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "status").read_text()
            arguments = (path / "cmdline").read_bytes()
        except OSError:
            continue
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        pid = int(path.name)
        above[pid] = int(lines["PPid"])
        if "VmHWM" in lines:
            what = "dump" if b"vmcorefs.fleet.child" in arguments else "worker"
            said[pid] = what, int(lines["VmHWM"].split()[0]) << 10
    for pid, (what, peak) in said.items():
        one = pid
        while one in above and one != command:
            one = above[one]
        if one == command:
            kind = "command" if pid == command else what
            run.peaks[kind] = max(run.peaks.get(kind, 0), peak)


def _rows(out: Path) -> list[dict[str, Any]]:
    columns = ["dump", "outcome", "seconds", "group_title"]
    rows: list[dict[str, Any]] = pq.read_table(out / "dumps.parquet", columns=columns).to_pylist()
    return rows


def _tell(what: str, run: Run, rows: list[dict[str, Any]], processes: int) -> None:
    inside = sum(row["seconds"] for row in rows)
    share = 1 - inside / (run.seconds * processes)
    print(
        f"{what}: {run.seconds:.1f} s, {len(rows) / run.seconds:.2f} dumps/s, processor"
        f" {run.processor / max(len(rows), 1):.2f} s a dump, not in dumps' own processes"
        f" {100 * share:.1f} % of {processes} x {run.seconds:.1f} s"
    )
    peaks = ", ".join(f"{kind} {peak >> 20}" for kind, peak in sorted(run.peaks.items()))
    print(f"  most MiB resident: {peaks}; {dict(Counter(row['outcome'] for row in rows))}")


def _compare(made: list[Variant], rows: list[dict[str, Any]]) -> None:
    """Say how many dumps are in the group of their crash."""
    found = {os.path.basename(row["dump"]): row["group_title"] for row in rows}
    titled = [one for one in made if one.has_title]
    right = sum(found[one.name] == title_of(one) for one in titled)
    joined = sum(found[one.name].startswith("kernel panic: ") for one in made if not one.has_title)
    print(
        f"  {right} of {len(titled)} with a title in their group; {joined} of"
        f" {len(made) - len(titled)} without one in a group of their stack"
    )
