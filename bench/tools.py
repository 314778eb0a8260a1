"""What users feel: ``python -m bench tools CAPTURE VMLINUX``.

CAPTURE is a directory with ``capture.toml`` and the kernel's own ``vmcore`` (``python -m
tests.lab.capture`` makes one), VMLINUX its kernel with debug symbols. Each tool is run on that
vmcore, as it lies on the disk, and on a fresh mount, in turn; then the whole way, from the image to
the tool's end: mounting, against writing the vmcore out first, as one does without a mount.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.machine import mounted

TASKS = Path(__file__).parents[1] / "tests" / "real" / "drgn_report.py"
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

Tool = Callable[[Path, Path, Path], list[str]]
"""The command of a tool, of the vmlinux, the dump, and a directory to write to."""

TOOLS: dict[str, Tool] = {
    "crash to its prompt": lambda vmlinux, dump, _: ["crash", "-s", str(vmlinux), str(dump)],
    "drgn to the list of tasks": lambda vmlinux, dump, _: [
        *(sys.executable, str(TASKS), str(vmlinux), str(dump))
    ],
    "makedumpfile -c -d 31": lambda _, dump, out: [
        *("makedumpfile", "-c", "-d", "31", str(dump), str(out / "filtered"))
    ],
}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m bench tools", description=__doc__)
    parser.add_argument("capture", type=Path)
    parser.add_argument("vmlinux", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        for line in format_table(chosen.capture, chosen.vmlinux, chosen.rounds, Path(directory)):
            print(line)


def format_table(capture: Path, vmlinux: Path, rounds: int, out: Path) -> Iterator[str]:
    """A line for each tool."""
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    (out / "mnt").mkdir()
    for number in range(rounds):
        for name, tool in TOOLS.items():
            # in turn: what runs first finds the disk still at work, and the CPU's caches cold
            measured = _measure(capture, vmlinux, tool, out, file_first=number % 2 == 0)
            for how, taken in measured.items():
                seconds[name, how].append(taken)
    yield (
        "| tool | on the vmcore, s | on a fresh mount, s | ratio (least to most)"
        " | mount and tool, s | extract and tool, s |"
    )
    yield "|---|---|---|---|---|---|"
    for name in TOOLS:
        pairs = zip(seconds[name, "mount"], seconds[name, "file"], strict=True)
        ratios = [mount / file for mount, file in pairs]
        hows = ("file", "mount", "from mount", "from extract")
        file, mount, whole, today = (statistics.median(seconds[name, how]) for how in hows)
        yield (
            f"| {name} | {file:.2f} | {mount:.2f} | {statistics.median(ratios):.3f}"
            f" ({min(ratios):.3f} to {max(ratios):.3f}) | {whole:.2f} | {today:.2f} |"
        )


def _measure(
    capture: Path, vmlinux: Path, tool: Tool, out: Path, *, file_first: bool
) -> dict[str, float]:
    def on_file() -> float:
        return _timed(lambda: _run(tool(vmlinux, capture / "vmcore", out), out))

    before = on_file() if file_first else None
    arguments = [str(capture / "capture.toml")]
    began = time.perf_counter()
    with mounted(arguments, out / "mnt", os.sched_getaffinity(0)):
        ready = time.perf_counter()
        _run(tool(vmlinux, out / "mnt" / "vmcore", out), out)
        ended = time.perf_counter()
    file = on_file() if before is None else before
    extract = [sys.executable, "-m", "vmcorefs", "extract", "vmcore", *arguments]
    copy = out / "vmcore"
    today = _timed(lambda: _run([*extract, "-o", str(copy)], out))
    today += _timed(lambda: _run(tool(vmlinux, copy, out), out))
    copy.unlink()
    return {
        "mount": ended - ready,
        "from mount": ended - began,
        "file": file,
        "from extract": today,
    }


def _timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _run(command: list[str], out: Path) -> None:
    (out / "filtered").unlink(missing_ok=True)
    environment = {**os.environ, "PATH": PATH, "TERM": "dumb", "HOME": str(out)}
    done = subprocess.run(
        command, input="quit\n", capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
