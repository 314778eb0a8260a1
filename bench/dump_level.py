"""Page for page against makedumpfile, and in what time: ``python -m bench dump-level``.

On the captures of both kernels that the tests use, for each dump level: how many pages Debian's
makedumpfile keeps, how many the one that ``tests/real/newer.py`` fetches, and how many vmcorefs,
and which are another's. Then the seconds that telling all pages takes, by turns in one
run: makedumpfile's own figure for its step "Excluding unnecessary pages", and vmcorefs's.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import vmcorefs
from tests.lab.capture import Capture, Recipe, cached_capture
from tests.real.kdump import read_bitmaps
from tests.real.newer import newer_makedumpfile
from vmcorefs.core.dump_level import PageKind, left_out
from vmcorefs.image import find_page_kinds

LEVELS = (0, 1, 2, 4, 8, 16, 31)
ROUNDS = 5
_STEP = re.compile(rb"STEP \[Excluding unnecessary pages\] : ([0-9.]+) seconds")


def main(_: list[str]) -> None:
    """Compare them on both kernels."""
    tools: dict[str, list[str | Path]] = {
        "Debian's": ["makedumpfile"],
        "newer": newer_makedumpfile(),
    }
    for role in ("stable", "newer"):
        capture = cached_capture(Recipe(kernel=role))
        with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
            compare(capture, tools, Path(scratch) / "out")


def compare(capture: Capture, tools: dict[str, list[str | Path]], out: Path) -> None:
    """Print a table for one capture."""
    print(capture.kernel.name)
    with vmcorefs.open(capture.config) as opened:
        end = opened.image.memory_map.end // 4096
        kinds = find_page_kinds(opened.image).of(0, end)
        for level in LEVELS:
            told: list[str] = []
            kept = 0
            for name, command in tools.items():
                run(command, capture, out, level)
                ram, theirs = read_bitmaps(out)
                ours = ram & ~left_out(level)[kinds[: len(ram)]]
                more = kinds[: len(ram)][ours & ~theirs]
                fewer = kinds[: len(ram)][theirs & ~ours]
                told.append(f"{name} {theirs.sum()} (-{_count(more)}, +{_count(fewer)})")
                kept = int(ours.sum())
            print(f"  -d {level:<2} vmcorefs {kept}  {'  '.join(told)}")
        names = (*tools, "vmcorefs", "its CPU time")
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name, command in tools.items():
                seconds[name].append(run(command, capture, out, 31))
            started, used = time.perf_counter(), time.process_time()
            find_page_kinds(opened.image).of(0, end)
            seconds["vmcorefs"].append(time.perf_counter() - started)
            seconds["its CPU time"].append(time.process_time() - used)
    for name, found in seconds.items():
        spread = f"{min(found):.4f} to {max(found):.4f}"
        print(f"  {name:12} {statistics.median(found):.4f} s for 1 GiB  ({spread})")


def run(command: list[str | Path], capture: Capture, out: Path, level: int) -> float:
    """Have it write a dump, and return the seconds that it says the filter took."""
    words = [*command, "-f", "-l", "-d", str(level), "--message-level", "31", capture.vmcore, out]
    said = subprocess.run(words, check=True, capture_output=True)
    return sum(float(one) for one in _STEP.findall(said.stdout + said.stderr))


def _count(kinds: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    found = np.bincount(kinds, minlength=len(PageKind)).tolist()
    some = [f"{n} {kind.name.lower()}" for kind, n in zip(PageKind, found, strict=True) if n]
    return ", ".join(some) or "0"
