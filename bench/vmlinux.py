"""What making ``vmlinux`` costs: ``python -m bench vmlinux DUMP...``.

Each dump is opened ROUNDS times, in a process of its own, and ``vmlinux`` is asked for. Prints
medians with spread of the processor time and of the time that it took, the most memory that it
needed besides what opening the dump did, the size of the file, and how loaded the machine was.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import vmcorefs
from vmcorefs.core.structures.btf_table import read_types

ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """What it took to make one.

    Attributes:
        processor: Seconds of processor time.
        seconds: Seconds by the clock.
        memory: MiB beyond the most that there were before.
        size: Bytes of the file.
        types: Types in the kernel's BTF.
    """

    processor: float
    seconds: float
    memory: float
    size: int
    types: int


def main(arguments: list[str]) -> None:
    """Run it on the dumps that are named."""
    if not arguments:
        sys.exit("bench vmlinux: name dumps of kernels that have BTF")
    spawn = multiprocessing.get_context("spawn")
    for path in arguments:
        costs = []
        for _ in range(ROUNDS):
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                costs.append(pool.submit(measure, path).result())
        tell(path, costs)


def measure(path: str) -> Cost:
    """Make it once; a process's most memory never falls, so that this is for a new one."""
    with vmcorefs.open(path) as capture:
        before, memory = time.process_time(), most_memory()
        started = time.perf_counter()
        size = capture["vmlinux"].size
        seconds = time.perf_counter() - started
        processor, memory = time.process_time() - before, most_memory() - memory
        kernel = capture.image.kernel
        types = len(read_types(kernel.types, kernel.byte_order)) if kernel is not None else 0
    return Cost(processor, seconds, memory, size, types)


def most_memory() -> float:
    """MiB that this process has had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tell(path: str, costs: list[Cost]) -> None:
    """Print a row for each quantity."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{path}: {costs[0].types} types, {costs[0].size / 2**20:.0f} MiB; load {load}")
    for name, unit, values in (
        ("processor", "s", sorted(cost.processor for cost in costs)),
        ("clock", "s", sorted(cost.seconds for cost in costs)),
        ("memory", "MiB", sorted(cost.memory for cost in costs)),
    ):
        median = statistics.median(values)
        print(f"  {name:9} {median:7.2f} {unit}  ({values[0]:.2f} to {values[-1]:.2f})")
