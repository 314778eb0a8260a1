"""From command to readable tree, and the daemon's memory: ``python -m bench mount``.

A sparse image of 1 GiB and of 1 TiB whose memory is one range, and one of 1 TiB with 100,000.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.machine import memory, mounted

GIB, TIB = 1 << 30, 1 << 40
CASES = (("1 GiB, one range", GIB, 1), ("1 TiB, one range", TIB, 1), ("1 TiB", TIB, 100_000))
PAGE = 4096


def write_map(path: Path, size: int, ranges: int) -> None:
    """A memory map of equal ranges with a page that is not RAM between them."""
    step = size // ranges // PAGE * PAGE
    gap = PAGE if ranges > 1 else 0
    path.write_text(
        "".join(f"{n * step:x}-{(n + 1) * step - gap - 1:x} : System RAM\n" for n in range(ranges))
    )


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m bench mount", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", help="where the image lies ($TMPDIR or /tmp)")
    chosen = parser.parse_args(arguments)
    for line in format_table(chosen.directory, chosen.rounds):
        print(line)


def format_table(where: str | None, rounds: int) -> Iterator[str]:
    """A line for each case."""
    yield "| image | to a readable tree, s (least to most) | RSS | of it anonymous | peak |"
    yield "|---|---|---|---|---|"
    for name, size, ranges in CASES:
        label = name if ranges == 1 else f"{name}, {ranges} ranges"
        with tempfile.TemporaryDirectory(dir=where) as directory:
            times, used = measure(Path(directory), size, ranges, rounds)
        sizes = (f"{used[key] / (1 << 20):.1f} MiB" for key in ("VmRSS", "RssAnon", "VmHWM"))
        median = statistics.median(times)
        yield f"| {label} | {median:.2f} ({min(times):.2f} to {max(times):.2f}) | " + (
            " | ".join(sizes) + " |"
        )


def measure(
    directory: Path, size: int, ranges: int, rounds: int
) -> tuple[list[float], dict[str, int]]:
    """Seconds to the first 4 KiB of ``vmcore``, and the memory of the last round's daemon."""
    image, memory_map, mountpoint = (directory / name for name in ("ram", "iomem", "mnt"))
    mountpoint.mkdir()
    write_map(memory_map, size, ranges)
    image.touch()
    os.truncate(image, size)
    arguments = ["--map", str(memory_map), str(image)]
    times: list[float] = []
    used: dict[str, int] = {}
    for _ in range(rounds):
        began = time.perf_counter()
        with mounted(arguments, mountpoint, os.sched_getaffinity(0)) as daemon:
            with (mountpoint / "vmcore").open("rb", buffering=0) as file:
                file.read(PAGE)
            times.append(time.perf_counter() - began)
            used = memory(daemon)
    return times, used
