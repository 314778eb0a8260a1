"""Dumps of ours beside makedumpfile's: ``python -m bench save [VMCORE]``.

VMCORE is what a kernel gave (``python -m tests.lab.capture`` makes one, and it is made if none is
named; ``python -m bench busy`` makes one that has more to save). It lies in the page cache. Seconds
are of the whole command, ours with Python's start, the sync of what is written, which makedumpfile
leaves to others, and the SHA-256 of the dump, with which makedumpfile has nothing to compare: ours
runs without it too. Name a directory in memory to leave the disk out. All have the same number of
threads, and take turns at being first: memory is slower where nobody had it before. Our modules are
compiled before the first round, as in an installation.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import vmcorefs
from bench.peers import lab_capture

PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
MIB = 1 << 20

OPTIONS = {"zlib": ["-c"], "lzo": ["-l"], "snappy": ["-p"], "zstd": ["-z"], "none": []}
"""makedumpfile's, by codec."""

BUILT = {"lzo": "lzo\tenabled", "snappy": "snappy\tenabled", "zstd": "zstd\tenabled"}
"""What its ``-v`` says where it has a codec that it may lack."""


LAUNCH = """\
import json, os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10
print(json.dumps([time.perf_counter() - began, cpu, peak, os.waitstatus_to_exitcode(status)]))
"""
"""Runs a command from a process that is small: until its exec, the child's memory is its parent's,
and counts (fs/exec.c, ``setmax_mm_hiwater_rss``)."""


@dataclass(frozen=True)
class Run:
    """What one run of a command took.

    Attributes:
        seconds: Wall clock.
        cpu: CPU seconds, user and system.
        peak: Most resident memory, in bytes.
        size: Bytes in the dump.
    """

    seconds: float
    cpu: float
    peak: int
    size: int


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m bench save", description=__doc__)
    parser.add_argument("vmcore", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="directory for the dumps (a temporary one)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--levels", default="31,0")
    parser.add_argument("--codecs", default=",".join(OPTIONS))
    chosen = parser.parse_args(arguments)
    if not shutil.which("makedumpfile", path=PATH):
        sys.exit("makedumpfile: not found; apt-get install makedumpfile")
    vmcore = chosen.vmcore or lab_capture() / "vmcore"
    levels = [int(level) for level in chosen.levels.split(",")]
    with tempfile.TemporaryDirectory(dir=chosen.out) as out:
        runs = measure(vmcore, Path(out), levels, chosen.codecs.split(","), chosen)
    for line in format_table(vmcore, runs, chosen):
        print(line)


def measure(
    vmcore: Path, out: Path, levels: list[int], codecs: list[str], chosen: argparse.Namespace
) -> dict[tuple[str, int, str], list[Run]]:
    """Runs by codec, level, and whose they are; the two take turns."""
    compileall.compile_dir(os.path.dirname(vmcorefs.__file__), quiet=1)
    subprocess.run(["cat", vmcore], stdout=subprocess.DEVNULL, check=True)
    runs: defaultdict[tuple[str, int, str], list[Run]] = defaultdict(list)
    for number in range(chosen.rounds):
        for level in levels:
            for codec in codecs:
                those = list(commands(vmcore, out, level, codec, chosen.threads).items())
                turn = number % len(those)
                for whose, command in those[turn:] + those[:turn]:
                    runs[codec, level, whose].append(run(command, out))
    return runs


def commands(vmcore: Path, out: Path, level: int, codec: str, threads: int) -> dict[str, list[str]]:
    """All commands, or ours alone where makedumpfile was built without the codec."""
    dump = str(out / "dump")
    many = ["--num-threads", str(threads)] if threads > 1 and codec != "none" else []
    theirs = ["makedumpfile", *OPTIONS[codec], "-d", str(level), *many, str(vmcore), dump]
    ours = [
        *(sys.executable, "-m", "vmcorefs", "save", str(vmcore), "-o", dump, "--quiet"),
        *("--dump-level", str(level), "--codec", codec, "--threads", str(threads)),
    ]
    version = subprocess.run(
        ["makedumpfile", "-v"], capture_output=True, text=True, check=False, env={"PATH": PATH}
    )
    built = BUILT.get(codec, "") in version.stdout + version.stderr
    bare = [*ours, "--no-sha256"]
    return {"ours": ours, "bare": bare} | ({"makedumpfile": theirs} if built else {})


def run(command: list[str], out: Path) -> Run:
    """Run a command that leaves ``dump`` in ``out``."""
    launched = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCH, *command],
        stdout=subprocess.PIPE,
        env={**os.environ, "PATH": PATH},
        check=True,
    )
    seconds, cpu, peak, code = json.loads(launched.stdout)
    if code:
        raise RuntimeError(f"{command} ended with {code}")
    size = (out / "dump").stat().st_size
    for file in out.iterdir():
        file.unlink()
    return Run(seconds, cpu, peak, size)


def format_table(
    vmcore: Path, runs: dict[tuple[str, int, str], list[Run]], chosen: argparse.Namespace
) -> Iterator[str]:
    """What was measured, a line for each codec and level."""
    day = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    where = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    size = vmcore.stat().st_size / MIB
    yield (
        f"{day}, {where}, {vmcore} of {size:.0f} MiB, {chosen.threads} thread(s),"
        f" {chosen.rounds} rounds"
    )
    yield ""
    yield (
        "| codec | level | seconds: makedumpfile | ours | ratio (least to most) | without SHA-256 |"
        " CPU ratio | size: makedumpfile, MiB | ratio | peak MiB: makedumpfile | ours |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for codec, level in dict.fromkeys((codec, level) for codec, level, _whose in runs):
        yield format_row(codec, level, runs)


def format_row(codec: str, level: int, runs: dict[tuple[str, int, str], list[Run]]) -> str:
    """One codec and level."""
    ours = runs[codec, level, "ours"]
    theirs = runs.get((codec, level, "makedumpfile"), [])
    seconds = statistics.median(each.seconds for each in ours)
    peak = max(each.peak for each in ours) / MIB
    if not theirs:
        size = ours[0].size / MIB
        seen = f"{seconds:.2f} | | | | ({size:.1f}) | | | {peak:.0f} |"
        return f"| {codec} | {level} | not built | {seen}"
    pairs = list(zip(ours, theirs, strict=True))
    cpu = statistics.median(mine.cpu / other.cpu for mine, other in pairs)
    return (
        f"| {codec} | {level} | {statistics.median(each.seconds for each in theirs):.2f}"
        f" | {seconds:.2f} | {format_ratios(ours, theirs)}"
        f" | {format_ratios(runs[codec, level, 'bare'], theirs)} | {cpu:.2f}"
        f" | {theirs[0].size / MIB:.1f} | {ours[0].size / theirs[0].size:.3f}"
        f" | {max(each.peak for each in theirs) / MIB:.0f} | {peak:.0f} |"
    )


def format_ratios(ours: list[Run], theirs: list[Run]) -> str:
    """Seconds, round by round: the median, the least and the most."""
    ratios = [mine.seconds / other.seconds for mine, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
