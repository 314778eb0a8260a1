"""Run by the tests as ``report_truth.py VMLINUX DUMP``: what drgn says with the debug package."""

from __future__ import annotations

import json
import sys
from typing import Any

from drgn import Object, Program
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.mm import task_rss, totalram_pages
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import cpu_curr, task_cpu, task_state_to_char
from drgn.helpers.linux.slab import (
    for_each_slab_cache,
    slab_cache_pages_per_slab,
    slab_cache_usage,
)
from drgn.helpers.linux.vmstat import nr_free_pages


def _pcs(program: Program, task: Object) -> list[int]:
    """Return addresses of all but inlined calls, each once."""
    pcs = []
    for frame in program.stack_trace(task):
        try:
            pc = frame.pc
        except LookupError:
            break
        if not frame.is_inline:
            pcs.append(pc)
    return pcs


def main(vmlinux: str, dump: str) -> None:
    """Print it as JSON."""
    program = Program()
    program.set_core_dump(dump)
    program.load_debug_info([vmlinux])
    page_size = int(program["PAGE_SIZE"])
    tasks = list(for_each_task(program))
    current = {cpu: cpu_curr(program, cpu) for cpu in for_each_online_cpu(program)}
    said: dict[str, Any] = {
        "stacks": {cpu: _pcs(program, task) for cpu, task in current.items()},
        "on_cpu": {cpu: int(task.pid) for cpu, task in current.items()},
        "states": [task_state_to_char(task) for task in tasks],
        "threads": [
            [int(task.pid), int(task.tgid), task.comm.string_().decode(), task_cpu(task)]
            for task in tasks
        ],
        "rss": {int(task.pid): task_rss(task).total * page_size for task in tasks if task.mm},
        "slabs": {
            cache.name.string_().decode(): slab_cache_usage(cache).num_slabs
            * slab_cache_pages_per_slab(cache)
            * page_size
            for cache in for_each_slab_cache(program)
        },
        "modules": [module.name.string_().decode() for module in for_each_module(program)],
        "memory": int(totalram_pages(program)) * page_size,
        "free": nr_free_pages(program) * page_size,
    }
    print(json.dumps(said))  # noqa: T201  # it is what the script is for


if __name__ == "__main__":
    main(*sys.argv[1:])
