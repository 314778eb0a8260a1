"""What a dump costs by size, ours beside makedumpfile's: ``python -m bench slopes VMCORE...``.

Of several vmcores, each at several levels, the CPU seconds of the whole command are fitted, by
least squares, to a fixed cost, so many a million pages that are looked at, and so many a GiB that
is kept (pages of zeros are not: they are read, and not stored). Vmcores of different sizes tell the
cost of looking from the fixed one; an idle and a busy machine, and the levels, that of keeping.
Each round is fitted by itself: the spread is that of the rounds. Ours runs without the SHA-256,
which makedumpfile does not compute. Otherwise as ``bench save``, which has the whole commands.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

import vmcorefs
from bench.save import MIB, Run, commands, run

GIB = 1 << 30
COSTS = ("fixed, s", "a million pages, s", "a GiB kept, s")

Rows = dict[str, list[Run]]
"""By whose they are: a run for each vmcore and level."""


def main(arguments: list[str]) -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser("python -m bench slopes", description=__doc__)
    parser.add_argument("vmcores", type=Path, nargs="+", metavar="VMCORE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="directory for the dumps (a temporary one)")
    parser.add_argument("--levels", default="31,23,1")
    parser.add_argument("--codecs", default="zlib,lzo,none")
    chosen = parser.parse_args(arguments)
    compileall.compile_dir(os.path.dirname(vmcorefs.__file__), quiet=1)
    levels = [int(level) for level in chosen.levels.split(",")]
    points = [(vmcore, level) for vmcore in chosen.vmcores for level in levels]
    print(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M UTC}, {os.cpu_count()} CPUs,", end=" ")
    print(f"load {os.getloadavg()[0]:.1f}, {chosen.rounds} rounds")
    with tempfile.TemporaryDirectory(dir=chosen.out) as out:
        facts = [look(vmcore, Path(out), level) for vmcore, level in points]
        for vmcore, level, row in zip(*zip(*points, strict=True), facts, strict=True):
            print(f"{vmcore} at {level}: {row[1]:.3f} million pages, {row[2]:.3f} GiB kept")
        print(f"\n| codec | cost | makedumpfile | ours | ratio (least to most) |\n{'|---' * 5}|")
        for codec in chosen.codecs.split(","):
            rounds = [measure(points, Path(out), codec, turn) for turn in range(chosen.rounds)]
            for line in format_codec(codec, np.array(facts), rounds):
                print(line, flush=True)


def look(vmcore: Path, out: Path, level: int) -> tuple[float, float, float]:
    """What a dump's cost is fitted to: 1, millions of pages, and GiB kept."""
    command = [sys.executable, "-m", "vmcorefs", "save", str(vmcore), "-o", str(out / "dump")]
    command += ["-d", str(level), "--codec", "lzo", "--json", "--quiet", "--no-sha256"]
    done = subprocess.run(command, check=True, capture_output=True)
    found = json.loads(done.stdout)
    for file in out.iterdir():
        file.unlink()
    counts = found["pages"]
    looked = sum(kind["kept"] + kind["left_out"] for kind in counts.values())
    kept = sum(kind["kept"] for name, kind in counts.items() if name != "zero")
    return 1.0, looked / 1e6, kept * found["page_size"] / GIB


def measure(points: list[tuple[Path, int]], out: Path, codec: str, turn: int) -> Rows:
    """One round: every vmcore at every level, by both; they take turns at being first."""
    rows: Rows = {"bare": [], "makedumpfile": []}
    for vmcore, level in points:
        subprocess.run(["cat", vmcore], stdout=subprocess.DEVNULL, check=True)
        both = commands(vmcore, out, level, codec, 1)
        if "makedumpfile" not in both:
            sys.exit(f"makedumpfile was built without {codec}: name others with --codecs")
        for whose in sorted(rows, reverse=bool(turn % 2)):
            rows[whose].append(run(both[whose], out))
    return rows


def fit(facts: npt.NDArray[np.float64], runs: list[Run]) -> npt.NDArray[np.float64]:
    """The three costs that come nearest to the runs' CPU seconds."""
    costs: npt.NDArray[np.float64]
    costs, *_ = np.linalg.lstsq(facts, np.array([each.cpu for each in runs]), rcond=None)
    return costs


def format_codec(codec: str, facts: npt.NDArray[np.float64], rounds: list[Rows]) -> Iterator[str]:
    """The costs of one codec, a line each, and the most memory."""
    ours = np.array([fit(facts, rows["bare"]) for rows in rounds])
    theirs = np.array([fit(facts, rows["makedumpfile"]) for rows in rounds])
    for number, cost in enumerate(COSTS):
        mine, other = ours[:, number], theirs[:, number]
        ratio = mine / other
        yield (
            f"| {codec} | {cost} | {np.median(other):.3f} | {np.median(mine):.3f}"
            f" | {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f}) |"
        )
    for name, part in (("whole command, CPU", "cpu"), ("whole command, wall", "seconds")):
        pairs = [
            sum(getattr(one, part) for one in rows["bare"])
            / sum(getattr(one, part) for one in rows["makedumpfile"])
            for rows in rounds
        ]
        spread = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        yield f"| {codec} | {name} | | | {spread} |"
    peaks = [
        max(run.peak for rows in rounds for run in rows[whose]) / MIB
        for whose in ("makedumpfile", "bare")
    ]
    yield f"| {codec} | most memory, MiB | {peaks[0]:.0f} | {peaks[1]:.0f} | |"
