"""What extent tables cost: ``python -m bench extents [COUNT]``.

Prints the time to build the tables of a mount from COUNT pieces of memory (1,000,000 by default),
and of one lookup in them, medians with spread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.elfcorehdr import make_elfcorehdr
from vmcorefs.core.layouts.kernel import lay_out_vmcore
from vmcorefs.core.space.extents import Extents, Kind, coalesce, fill, merge, overlay, project
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource
from vmcorefs.tree.file import whole

PAGE = 4096
ROUNDS = 5


def scattered(count: int) -> Extents:
    """COUNT extents of one page each, every other page of the address space, offsets shuffled."""
    start = np.arange(count, dtype=np.int64) * 2 * PAGE
    return Extents(
        start,
        np.full(count, PAGE, dtype=np.int64),
        np.random.default_rng(1).permutation(count) * PAGE,
        np.zeros(count, dtype=np.int32),
        np.full(count, Kind.DATA, dtype=np.int8),
    )


def build(captured: Extents) -> Extents:
    """Everything that a mount does with tables: overlay, layout, projection, filling, joining."""
    backup = scattered(160)
    memory = overlay(captured, backup)
    layout = lay_out_vmcore(
        make_elfcorehdr(memory.ranges, e_machine=EM_X86_64), 0, page_size=PAGE, note_align=4
    )
    table = project(memory, layout.windows)
    head = whole(1, len(layout.head))
    return coalesce(fill(merge(head, table), make_ranges([(0, layout.size)]), Kind.HOLE))


def timed(action: Callable[[], object]) -> list[float]:
    """Seconds that ``action`` takes, ROUNDS times."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return times


def report(label: str, times: list[float], unit: str, scale: float) -> None:
    """Print the median and the spread."""
    median, low, high = statistics.median(times), min(times), max(times)
    print(f"{label:<44}{median * scale:8.2f} {unit}  ({low * scale:.2f} to {high * scale:.2f})")


def main(arguments: list[str]) -> None:
    """Print the two figures."""
    count = int(arguments[0]) if arguments else 1_000_000
    captured = scattered(count)
    report(f"building the tables of {count} extents", timed(lambda: build(captured)), "s", 1)
    table = build(captured)
    reader = Reader("vmcore", table, (BytesSource("nothing", b""),))
    end = int(table.start[-1])
    offsets = np.random.default_rng(2).integers(0, end, 20_000).tolist()

    def look_up() -> None:
        for offset in offsets:
            reader.row_of(offset)

    report(f"one lookup in {len(table)} rows", timed(look_up), "us", 1e6 / len(offsets))
