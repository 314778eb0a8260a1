"""What a report costs: ``python -m bench report CAPTURE VMLINUX``.

CAPTURE is a directory with the image ``ram`` and the kernel's own ``vmcore`` (``python -m
tests.lab.capture`` makes one), VMLINUX its kernel with debug symbols. The report of the image, and
of the same image as a sparse one of 15 TiB, beside crash's ``sys``, ``bt -a``, ``log`` and ``ps``
on the vmcore, in turn; each in a process of its own. Prints medians of the time, the processor
time, the most memory resident, and what was read of the image or the vmcore.

What was read is counted by strace: calls of pread and the like, not what comes through a mapping.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.tools import PATH

_LARGE = 15 << 40
_CRASH = b"sys\nbt -a\nlog\nps\nquit\n"
_READ = re.compile(r"^(?:\d+ +)?p?read(?:v2?|64)?\(\d+<([^>]+)>.* = (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        seconds: By the clock.
        processor: Seconds of processor time.
        memory: Most bytes resident.
    """

    seconds: float
    processor: float
    memory: int


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m bench report", description=__doc__)
    parser.add_argument("capture", type=Path)
    parser.add_argument("vmlinux", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    ram, vmcore = chosen.capture / "ram", chosen.capture / "vmcore"
    with tempfile.TemporaryDirectory(prefix="vmcorefs-bench-", dir=chosen.capture.parent) as made:
        large = Path(made) / "ram"
        subprocess.run(["cp", "--sparse=always", ram, large], check=True)
        os.truncate(large, _LARGE)
        report = [sys.executable, "-m", "vmcorefs", "report"]
        rows = {
            "report": ([*report, str(ram)], ram),
            "report, 15 TiB": ([*report, str(large)], large),
            "crash": (["crash", "-s", str(chosen.vmlinux), str(vmcore)], vmcore),
        }
        costs = defaultdict(list)
        for _ in range(chosen.rounds):
            for name, (command, _image) in rows.items():
                costs[name].append(measure(command))
        print(f"load {os.getloadavg()[0]:.1f}, {chosen.rounds} rounds")
        print("| | s | s of processor time | MiB resident | MiB read |")
        print("|---|---|---|---|---|")
        for name, (command, image) in rows.items():
            seconds = statistics.median(cost.seconds for cost in costs[name])
            processor = statistics.median(cost.processor for cost in costs[name])
            memory = statistics.median(cost.memory for cost in costs[name])
            size = bytes_read(command, image)
            print(
                f"| {name} | {seconds:.2f} | {processor:.2f} | {memory / 2**20:.0f}"
                f" | {size / 2**20:.1f} |"
            )


def measure(command: list[str]) -> Cost:
    """Run a command once."""
    began = time.perf_counter()
    with _started(command) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss << 10)


def bytes_read(command: list[str], image: Path) -> int:
    """Bytes of a file that a command, and what it starts, reads."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "strace"
        calls = "trace=read,pread64,readv,preadv,preadv2"
        strace = ["strace", "-f", "-y", "-qq", "-e", calls, "-e", "signal=none", "-o", str(log)]
        with _started([*strace, *command]) as process:
            process.wait()
        read = _READ.findall(log.read_text(errors="replace"))
    return sum(int(size) for path, size in read if path == str(image.resolve()))


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as script:
        script.write(_CRASH)
        script.seek(0)
        yield subprocess.Popen(
            command,
            stdin=script,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": PATH, "TERM": "dumb"},
        )
