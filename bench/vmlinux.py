"""What debug files cost: ``python -m bench vmlinux DUMP...``.

Each dump is opened ROUNDS times for each sort of file, in a process of its own, and all files of
that sort are asked for. Prints medians with spread of the processor time and of the time that it
took, the most memory that it needed besides what opening the dump did, how many files there are and
their size, and how loaded the machine was.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import vmcorefs
from vmcorefs import Capture
from vmcorefs.core.structures.types.btf_table import read_types

ROUNDS = 5

SORTS: dict[str, Callable[[Capture], Iterable[str]]] = {
    "vmlinux": lambda _: ["vmlinux"],
    "modules": lambda capture: capture.directories["modules"].files,
    "volatility3": lambda capture: [name for name in capture.files if "volatility3/" in name],
}
"""What is made, and the paths in the tree of the files that are it."""

PEERS = """\
peers: none. No other tool makes these of a memory image; crash, drgn, gdb and volatility3 ask for a
debug package, or a symbol file made of one."""


@dataclass(frozen=True)
class Cost:
    """What it took to make one.

    Attributes:
        processor: Seconds of processor time.
        seconds: Seconds by the clock.
        memory: MiB beyond the most that there were before.
        files: How many there are.
        size: Bytes of them.
        types: Types in the kernel's BTF.
    """

    processor: float
    seconds: float
    memory: float
    files: int
    size: int
    types: int


def main(arguments: list[str]) -> None:
    """Run it on the dumps that are named."""
    if not arguments:
        sys.exit("bench vmlinux: name dumps of kernels that have BTF")
    spawn = multiprocessing.get_context("spawn")
    for path in arguments:
        for sort in SORTS:
            costs = []
            for _ in range(ROUNDS):
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    costs.append(pool.submit(measure, path, sort).result())
            tell(f"{path}: {sort}", costs)
    print(PEERS)


def measure(path: str, sort: str) -> Cost:
    """Make them once; a process's most memory never falls, so that this is for a new one."""
    with vmcorefs.open(path) as capture:
        before, memory = time.process_time(), most_memory()
        started = time.perf_counter()
        sizes = [capture[name].size for name in SORTS[sort](capture)]
        seconds = time.perf_counter() - started
        processor, memory = time.process_time() - before, most_memory() - memory
        kernel = capture.image.kernel
        types = len(read_types(kernel.types, kernel.byte_order)) if kernel is not None else 0
    return Cost(processor, seconds, memory, len(sizes), sum(sizes), types)


def most_memory() -> float:
    """MiB that this process has had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tell(what: str, costs: list[Cost]) -> None:
    """Print a row for each quantity."""
    load, cost = ", ".join(f"{one:.1f}" for one in os.getloadavg()), costs[0]
    made = f"{cost.files} files, {cost.size / 2**20:.1f} MiB"
    print(f"{what}: of {cost.types} types {made}; load {load}")
    for name, unit, values in (
        ("processor", "s", sorted(cost.processor for cost in costs)),
        ("clock", "s", sorted(cost.seconds for cost in costs)),
        ("memory", "MiB", sorted(cost.memory for cost in costs)),
    ):
        median = statistics.median(values)
        print(f"  {name:9} {median:7.2f} {unit}  ({values[0]:.2f} to {values[-1]:.2f})")
