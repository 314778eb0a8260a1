"""Other projects' readers beside ours: ``python -m bench peers [CAPTURE]``.

CAPTURE is a directory with ``capture.toml``, the kernel's own ``vmcore``, and the image ``ram``,
flat from physical address 0 (``python -m tests.lab.capture`` makes one, of 1 GiB, and it is made if
none is named). Everything lies in the page cache and shares one CPU; beside each run the raw image
is read by a reader in C, and a ratio is to that. Below the tables stands what each row reads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from elftools.elf.elffile import ELFFile

from bench.libraries import PAGE, Ranges
from bench.machine import (
    MIB,
    Reader,
    Run,
    build_reader,
    cpu_seconds,
    mounted,
    on_cpus,
    touch_memory,
)

RANDOM_READS = 20_000
GIB = 1 << 30
ROOT = Path(__file__).parents[1]
EXAMPLE = Path("/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c")
"""libfuse's own example, as Debian's libfuse3-dev ships it."""

SEQ1, SEQ2, RANDOM1, RANDOM2 = MEASURES = (
    "sequential 1 MiB, first pass",
    "sequential 1 MiB, again",
    "random 4 KiB, first touch",
    "random 4 KiB, again",
)

BEST, MAPPED, EXAMPLE_LL, PREADV, LEECHCORE, KDUMPFILE = ROWS = (
    "vmcorefs, best plane",
    "vmcorefs, mapped",
    "libfuse's passthrough_ll",
    "image by Python's preadv",
    "LeechCore (MemProcFS)",
    "libkdumpfile",
)

NOTES = """\
What a row reads, and through what:

- vmcorefs: the vmcore of a mount, put together from the image, through a file; the reader is in C.
- libfuse's passthrough_ll: the image itself through a file, one to one, with `cache=always`, so
  that a second pass finds the page cache as ours does; the reader is in C. "Again" at random comes
  after a whole pass, for this as for ours.
- Python's preadv: the image itself, without a daemon; no peer, but what Python costs the next two.
- LeechCore: physical addresses of the raw image, by `LeechCore.read` of leechcorepyc in the
  reader's process; it puts nothing together, and each call makes a bytes object.
- libkdumpfile: physical addresses of the kernel's own vmcore, by `kdump_read` through ctypes in the
  reader's process; it looks up the segment and copies out of its mapping of the file, that the
  first pass has to fault in."""


@dataclass
class Figures:
    """What the rounds gave, by row and measure.

    Attributes:
        rates: Bytes per second.
        ratios: That to the image's, read in C beside it.
        daemon: CPU seconds of the daemon per GiB read; nothing without a daemon.
        reader: CPU seconds of the reader per GiB read.
    """

    rates: defaultdict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    ratios: defaultdict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    daemon: defaultdict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    reader: defaultdict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m bench peers", description=__doc__)
    parser.add_argument("capture", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each on fresh mounts (5)")
    chosen = parser.parse_args(arguments)
    if not EXAMPLE.exists():
        sys.exit(
            f"{EXAMPLE}: missing: apt-get install --reinstall libfuse3-dev; if it stays away, see"
            " whether a path-exclude in /etc/dpkg/dpkg.cfg.d leaves /usr/share/doc out"
        )
    capture = chosen.capture or lab_capture()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(capture, Path(directory))
        bench.check()
        for number in range(chosen.rounds):
            bench.measure(17 * number + 1)
        for line in format_tables(bench, capture, chosen.rounds):
            print(line)


def lab_capture() -> Path:
    """The directory of a crashed kernel's capture; it is made if the cache has none."""
    command = [sys.executable, "-m", "tests.lab.capture"]
    made = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.strip())


class Bench:
    """Measures one capture."""

    def __init__(self, capture: Path, directory: Path) -> None:
        self.figures = Figures()
        self.best_plane = "unknown"
        self._capture = capture
        self._image = capture / "ram"
        self._vmcore = capture / "vmcore"
        self._ranges = physical_ranges(self._vmcore, self._image.stat().st_size)
        self._cpu = {max(os.sched_getaffinity(0))}
        self._reader = Reader(build_reader(directory), self._cpu)
        self._example = build_example(directory)
        self._mountpoint = directory / "mnt"
        self._mountpoint.mkdir()

    def check(self) -> None:
        """See that all of them read the same bytes, and note which plane is the best here.

        Raises:
            RuntimeError: if they do not.
        """
        found = {
            PREADV: self._sum("preadv", self._image),
            LEECHCORE: self._sum("leechcore", self._image),
            KDUMPFILE: self._sum("libkdumpfile", self._vmcore),
        }
        for name, (mount, file) in self._mounts().items():
            library = "preadv" if name == EXAMPLE_LL else "libkdumpfile"
            with mount():
                found[name] = self._sum(library, self._mountpoint / file)
                if name == BEST:
                    layout = json.loads((self._mountpoint / "layout.json").read_bytes())
                    self.best_plane = layout["files"][file]["plane"]["name"]
        if len(set(found.values())) > 1:
            raise RuntimeError(
                f"{self._image}: they do not read the same memory: checksums {found}"
            )

    def measure(self, seed: int) -> None:
        """One round of all, in turn."""
        for warmed in (self._image, self._vmcore):
            self._reader.run("seq", warmed, MIB)
        for name, (mount, file) in self._mounts().items():
            self._measure_mount(name, mount, self._mountpoint / file, seed)
        self._measure_library(PREADV, "preadv", self._image, seed)
        self._measure_library(LEECHCORE, "leechcore", self._image, seed)
        self._measure_library(KDUMPFILE, "libkdumpfile", self._vmcore, seed)

    def _mounts(self) -> dict[str, tuple[Callable[[], AbstractContextManager[int]], str]]:
        """For each row with a daemon: what mounts it, and the file to read."""
        ours = [str(self._capture / "capture.toml")]
        at, cpu = self._mountpoint, self._cpu
        return {
            BEST: (lambda: mounted(ours, at, cpu), "vmcore"),
            MAPPED: (lambda: mounted(ours, at, cpu, "-o", "plane=mapped"), "vmcore"),
            EXAMPLE_LL: (lambda: example_mounted(self._example, self._capture, at, cpu), "ram"),
        }

    def _measure_mount(
        self, name: str, mount: Callable[[], AbstractContextManager[int]], file: Path, seed: int
    ) -> None:
        with mount() as daemon:
            touch_memory(self._image.stat().st_size)
            for measure in (SEQ1, SEQ2):
                self._measure_file(name, measure, daemon, file, ("seq", MIB))
            again = ("random", 5 * RANDOM_READS, seed)
            self._measure_file(name, RANDOM2, daemon, file, again)
        with mount() as daemon:
            touch_memory(self._image.stat().st_size)
            self._measure_file(name, RANDOM1, daemon, file, ("random", RANDOM_READS, seed))

    def _measure_file(
        self, name: str, measure: str, daemon: int, file: Path, what: tuple[str, *tuple[int, ...]]
    ) -> None:
        before = cpu_seconds(daemon)
        run = self._reader.run(what[0], file, *what[1:])
        used = cpu_seconds(daemon) - before
        self.figures.daemon[name, measure].append(used / run.size * GIB)
        self._keep(name, measure, run, self._reader.run(what[0], self._image, *what[1:]))

    def _measure_library(self, name: str, library: str, file: Path, seed: int) -> None:
        for measures, mode, amount in (
            ((SEQ1, SEQ2), "seq", MIB),
            ((RANDOM1, RANDOM2), "random", RANDOM_READS),
        ):
            output = self._run_library(library, file, mode, amount, seed)
            raw = self._reader.run(
                mode, self._image, amount, *((seed,) if mode == "random" else ())
            )
            for measure, line in zip(measures, output.splitlines(), strict=True):
                seconds, cpu, size = line.split()
                self._keep(name, measure, Run(float(seconds), float(cpu), int(size)), raw)

    def _keep(self, name: str, measure: str, run: Run, raw: Run) -> None:
        key = name, measure
        self.figures.rates[key].append(run.rate)
        self.figures.ratios[key].append(run.rate / raw.rate)
        self.figures.reader[key].append(run.cpu / run.size * GIB)

    def _sum(self, library: str, file: Path) -> int:
        return int(self._run_library(library, file, "sum", 2000, 1))

    def _run_library(self, library: str, file: Path, mode: str, amount: int, seed: int) -> str:
        command = [sys.executable, "-m", "bench.libraries", library, str(file), mode]
        ranges = (f"{start:x}-{end:x}" for start, end in self._ranges)
        command += [str(amount), str(seed), *ranges]
        with on_cpus(self._cpu):
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout


def physical_ranges(vmcore: Path, size: int) -> Ranges:
    """What a vmcore holds of an image from 1 MiB on, page by page and each page once.

    Below 1 MiB the image has what the crash kernel left there, and the vmcore the backup.

    Args:
        vmcore: The kernel's own.
        size: Bytes in the image, whose offsets are physical addresses.
    """
    with vmcore.open("rb") as file:
        segments = sorted(
            (segment["p_paddr"], segment["p_paddr"] + segment["p_memsz"])
            for segment in ELFFile(file).iter_segments("PT_LOAD")
        )
    ranges: Ranges = []
    last = MIB
    for start, end in segments:
        first = max(last, -(-start // PAGE) * PAGE)
        last = max(last, min(end, size) // PAGE * PAGE)
        if first < last:
            ranges.append((first, last))
    return ranges


def build_example(directory: Path) -> Path:
    """Compile libfuse's passthrough_ll, as its first comment says."""
    program = directory / "passthrough_ll"
    flags = subprocess.run(
        ["pkg-config", "fuse3", "--cflags", "--libs"], check=True, capture_output=True, text=True
    )
    command = ["cc", "-O2", str(EXAMPLE), *shlex.split(flags.stdout), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


@contextmanager
def example_mounted(program: Path, source: Path, mountpoint: Path, cpus: set[int]) -> Iterator[int]:
    """Mount a directory by passthrough_ll on ``cpus``; the value is its process id."""
    options = f"source={source.resolve()},cache=always"
    with on_cpus(cpus):
        daemon = subprocess.Popen([str(program), "-f", "-o", options, str(mountpoint)])
    try:
        while not os.path.ismount(mountpoint):
            if daemon.poll() is not None:
                raise RuntimeError(f"passthrough_ll ended with {daemon.returncode}")
            time.sleep(0.01)
        yield daemon.pid
    finally:
        if daemon.poll() is None:
            subprocess.run(["fusermount3", "-u", str(mountpoint)], check=True)
            daemon.wait()


def format_tables(bench: Bench, capture: Path, rounds: int) -> Iterator[str]:
    """The ratios, the figures behind them, and what they compare."""
    figures = bench.figures
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    now = datetime.now(UTC)
    size = (capture / "ram").stat().st_size // MIB
    yield (
        f"{now:%Y-%m-%d %H:%M} UTC, Linux {platform.release()}, {os.cpu_count()} CPUs, load {load},"
        f" a crashed kernel's image of {size} MiB, {rounds} rounds, all on one CPU; the"
        f" best plane is {bench.best_plane}"
    )
    yield ""
    yield "Rate as a ratio to the image's, read in C in the same round: median (least to most)."
    yield ""
    yield from _table(lambda row, measure: _ratio(figures.ratios[row, measure]))
    yield ""
    yield "GB/s, or thousand reads/s of 4 KiB; CPU s/GiB, daemon + reader, or the reader's alone."
    yield ""
    yield from _table(lambda row, measure: _figure(figures, row, measure))
    yield ""
    yield NOTES


def _table(cell: Callable[[str, str], str]) -> Iterator[str]:
    yield "| | " + " | ".join(MEASURES) + " |"
    yield "|---|" + "---|" * len(MEASURES)
    for row in ROWS:
        yield f"| {row} | " + " | ".join(cell(row, measure) for measure in MEASURES) + " |"


def _ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})"


def _figure(figures: Figures, row: str, measure: str) -> str:
    key = row, measure
    scale = PAGE * 1e3 if measure in {RANDOM1, RANDOM2} else 1e9
    daemon = f"{statistics.median(figures.daemon[key]):.2f} + " if figures.daemon[key] else ""
    rate, reader = statistics.median(figures.rates[key]), statistics.median(figures.reader[key])
    return f"{rate / scale:.3g}, {daemon}{reader:.2f}"
