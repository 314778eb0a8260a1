"""What reads cost by plane: ``python -m bench reads``.

Image and mount are read in the same run, in turn, both from the page cache; a figure is the median
of the rounds, with the spread, and the ratio to the image is the median of the rounds' ratios.
Daemon and reader share one CPU, as they do in a capture kernel; two readers have two.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import (
    MIB,
    Capture,
    Reader,
    build_reader,
    cpu_seconds,
    make_capture,
    mounted,
    touch_memory,
)

RANDOM_READS = 20_000
GIB = 1 << 30


@dataclass(frozen=True)
class Way:
    """One column of the table.

    Attributes:
        name: What it is called.
        runs: Which capture: ``one`` run of the image, or ``many``.
        path: The file that is read.
        options: Of ``mount``.
        pair_reads: Random reads of each of two readers: enough that their start does not count.
        asked: Measures that it is asked to reach: measure to the least ratio.
    """

    name: str
    runs: str
    path: str
    options: tuple[str, ...]
    pair_reads: int
    asked: dict[str, float]


SEQ1, SEQ2, RANDOM1, RANDOM2, MMAP, PAIR = (
    "sequential 1 MiB, first pass",
    "sequential 1 MiB, second pass",
    "random 4 KiB, first touch",
    "random 4 KiB, again",
    "mmap sequential, second pass",
    "two readers against one",
)
MEASURES = (SEQ2, SEQ1, RANDOM1, RANDOM2, MMAP, PAIR)

WAYS = (
    Way(
        *("kernel, one run", "one", "oldmem", (), 200_000),
        {SEQ2: 0.9, SEQ1: 0.8, RANDOM1: 0.8, RANDOM2: 0.8, MMAP: 0.9, PAIR: 1.6},
    ),
    Way(
        *("kernel, composite", "many", "vmcore", (), 200_000),
        {SEQ2: 0.9, SEQ1: 0.35, RANDOM1: 0.25, RANDOM2: 0.75, MMAP: 0.8, PAIR: 1.6},
    ),
    Way(
        *("mapped", "many", "vmcore", ("-o", "plane=mapped"), RANDOM_READS),
        {SEQ2: 0.4, SEQ1: 0.15, RANDOM1: 0.055, RANDOM2: 0.35, MMAP: 0.3, PAIR: 1.4},
    ),
    Way(
        *("mapped, direct I/O", "many", "vmcore", ("-o", "direct_io"), RANDOM_READS),
        {SEQ2: 0.38, SEQ1: 0.38, RANDOM1: 0.065, PAIR: 1.4},
    ),
    Way(*("plain", "many", "vmcore", ("-o", "plane=plain"), RANDOM_READS), {}),
)


Key = tuple[str, str]
"""A way's name and a measure."""


@dataclass
class Figures:
    """What the rounds gave.

    Attributes:
        rates: Bytes per second.
        raw: The same of the image itself, in the same round.
        daemon: CPU seconds of the daemon per GiB read.
        reader: CPU seconds of the reader per GiB read.
        image_pair: Rate of two readers of the image against one: what the machine allows.
    """

    rates: defaultdict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    raw: defaultdict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    daemon: defaultdict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    reader: defaultdict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    image_pair: list[float] = field(default_factory=list)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m bench reads", description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB in the image (1024)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each on fresh mounts (5)")
    parser.add_argument("--directory", help="where the image lies ($TMPDIR or /tmp)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        capture = make_capture(Path(directory), chosen.size * MIB)
        bench = Bench(capture, build_reader(Path(directory)))
        for number in range(chosen.rounds):
            for way in WAYS:
                bench.measure(way, 17 * number + 1)
        for line in format_tables(bench.figures, chosen.size, chosen.rounds):
            print(line)


class Bench:
    """Measures one capture."""

    def __init__(self, capture: Capture, program: Path) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        self.figures = Figures()
        self._capture = capture
        self._one = {cpus[-1]}
        self._all = set(cpus[-2:])
        self._alone = Reader(program, self._one)
        self._together = Reader(program, self._all)

    def measure(self, way: Way, seed: int) -> None:
        """One round of one way: the image and the mount, in turn."""
        self._capture.warm()
        file = self._capture.directory / "mnt" / way.path
        with self._mounted(way, self._one) as daemon:
            touch_memory(self._capture.image.stat().st_size)
            # first touch only once: each of these has a mount to itself
            self._compare(way, daemon, file, {SEQ1: ("seq", MIB)})
            self._compare(way, daemon, file, {SEQ2: ("seq", MIB)})
            self._compare(way, daemon, file, {RANDOM2: ("random", 5 * RANDOM_READS, seed)})
            self._alone.run("mmap", file)
            self._compare(way, daemon, file, {MMAP: ("mmap",)})
        with self._mounted(way, self._one) as daemon:
            touch_memory(self._capture.image.stat().st_size)
            self._compare(way, daemon, file, {RANDOM1: ("random", RANDOM_READS, seed)})
        self._two_readers(way, file, seed)

    def _compare(self, way: Way, daemon: int, file: Path, what: dict[str, tuple[Any, ...]]) -> None:
        for measure, (mode, *arguments) in what.items():
            key = way.name, measure
            before = cpu_seconds(daemon)
            run = self._alone.run(mode, file, *arguments)
            used = cpu_seconds(daemon) - before
            raw = self._alone.run(mode, self._capture.image, *arguments)
            self.figures.rates[key].append(run.rate)
            self.figures.raw[key].append(raw.rate)
            self.figures.daemon[key].append(used / run.size * GIB)
            self.figures.reader[key].append(run.cpu / run.size * GIB)

    def _two_readers(self, way: Way, file: Path, seed: int) -> None:
        key = way.name, PAIR
        with self._mounted(way, self._all):
            one = self._together.run("random", file, way.pair_reads, seed).rate
        with self._mounted(way, self._all):
            self.figures.rates[key].append(self._pair_rate(file, way.pair_reads, seed))
        self.figures.raw[key].append(one)
        image, count = self._capture.image, 10 * RANDOM_READS
        one = self._together.run("random", image, count, seed).rate
        self.figures.image_pair.append(self._pair_rate(image, count, seed) / one)

    def _pair_rate(self, file: Path, count: int, seed: int) -> float:
        pair = [self._together.start("random", file, count, seed + more) for more in (2, 4)]
        both = [self._together.finish(process) for process in pair]
        return sum(run.size for run in both) / max(run.seconds for run in both)

    def _mounted(self, way: Way, cpus: set[int]) -> AbstractContextManager[int]:
        arguments = self._capture.arguments(way.runs)
        return mounted(arguments, self._capture.directory / "mnt", cpus, *way.options)


def format_tables(figures: Figures, size: int, rounds: int) -> Iterator[str]:
    """The ratios beside what is asked, then the figures and the CPU time behind them."""
    now = datetime.now(UTC)
    yield (
        f"{now:%Y-%m-%d %H:%M} UTC, Linux {platform.release()}, {_processor()}, {os.cpu_count()}"
        f" CPUs, image of {size} MiB, {rounds} rounds"
    )
    yield ""
    yield "Ratio to the image in the same round, median (least to most); [asked], ! if not reached."
    yield ""
    yield "| daemon and reader on one CPU | " + " | ".join(way.name for way in WAYS) + " |"
    yield "|---|" + "---|" * len(WAYS)
    for measure in MEASURES:
        cells = (_ratio(figures, way, measure) for way in WAYS)
        yield f"| {measure} | " + " | ".join(cells) + " |"
    yield ""
    pair = figures.image_pair
    yield (
        f"Two readers of the image itself against one: {statistics.median(pair):.3g}"
        f" ({min(pair):.3g} to {max(pair):.3g})."
    )
    yield ""
    yield "GB/s, or thousand reads/s of 4 KiB; the image in brackets; CPU s/GiB, daemon + reader."
    yield ""
    yield "| | " + " | ".join(way.name for way in WAYS) + " |"
    yield "|---|" + "---|" * len(WAYS)
    for measure in MEASURES:
        cells = (_figure(figures, way, measure) for way in WAYS)
        yield f"| {measure} | " + " | ".join(cells) + " |"


def _ratio(figures: Figures, way: Way, measure: str) -> str:
    key = way.name, measure
    ratios = [rate / raw for rate, raw in zip(figures.rates[key], figures.raw[key], strict=True)]
    median = statistics.median(ratios)
    asked = way.asked.get(measure)
    mark = "" if asked is None else f" [{asked:g}]{'' if median >= asked else ' !'}"
    return f"{median:.3g} ({min(ratios):.3g} to {max(ratios):.3g}){mark}"


def _figure(figures: Figures, way: Way, measure: str) -> str:
    key = way.name, measure
    scale = 4096e3 if "random" in measure or measure == PAIR else 1e9
    rate = statistics.median(figures.rates[key]) / scale
    raw = statistics.median(figures.raw[key]) / scale
    text = f"{rate:.3g} [{raw:.3g}]"
    if figures.daemon[key]:
        daemon = statistics.median(figures.daemon[key])
        reader = statistics.median(figures.reader[key])
        text += f", {daemon:.2f} + {reader:.2f}"
    return text


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
