"""Where memory was: the kernel's counters, the largest slab caches and processes."""

from __future__ import annotations

import heapq
from typing import Final

import drgn
from drgn.helpers.linux.nodemask import for_each_online_node
from drgn.helpers.linux.percpu import percpu_counter_sum
from drgn.helpers.linux.slab import for_each_slab_cache, slab_cache_pages_per_slab
from drgn.helpers.linux.vmstat import global_node_page_state, global_zone_page_state

from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.schema import Memory, Process, Slab, Task
from vmcorefs.reports.report.walk.absent import ABSENT
from vmcorefs.reports.report.walk.zones import describe_zones

_SHOWN: Final = 10
_MAX_CACHES: Final = 4096
_RESIDENT: Final = ("MM_FILEPAGES", "MM_ANONPAGES", "MM_SHMEMPAGES")
_SWAPPED: Final = ("MM_SWAPENTS",)
_ZONE: Final = {"free": "NR_FREE_PAGES"}
_NODE: Final = {
    "anonymous": "NR_ANON_MAPPED",
    "file": "NR_FILE_PAGES",
    "shared": "NR_SHMEM",
    "dirty": "NR_FILE_DIRTY",
    "writeback": "NR_WRITEBACK",
}
_NODE_BYTES: Final = {
    # in bytes since 5.9 (d42f3245c7e2), but kept in pages: vmstat_item_in_bytes
    "slab_reclaimable": "NR_SLAB_RECLAIMABLE_B",
    "slab_unreclaimable": "NR_SLAB_UNRECLAIMABLE_B",
}
_NODE_KIB: Final = {"kernel_stacks": "NR_KERNEL_STACK_KB"}


def describe_memory(
    asked: Asked, program: drgn.Program, tasks: list[tuple[drgn.Object, Task]]
) -> Memory:
    """Where memory was."""
    slabs = asked.get("memory.slabs", lambda: _slabs(asked, program), ABSENT) or []
    zones = asked.get("memory.zones", lambda: list(describe_zones(program)), ABSENT) or []
    return Memory(_counters(asked, program), slabs, _processes(asked, program, tasks), zones)


def _counters(asked: Asked, program: drgn.Program) -> dict[str, int]:
    page_size = int(program["PAGE_SIZE"])
    found = {}
    for of, items, unit in (
        (global_zone_page_state, _ZONE, page_size),
        (global_node_page_state, _NODE, page_size),
        (global_node_page_state, _NODE_BYTES, page_size),
        (global_node_page_state, _NODE_KIB, 1 << 10),
    ):
        for name, item in items.items():
            try:
                # CPUs have counts of their own that are not in yet: it may be below zero
                found[name] = max(of(program, program[item]), 0) * unit
            except ABSENT as error:
                asked.miss(f"memory.counters.{name}", str(error))
    return found


def _slabs(asked: Asked, program: drgn.Program) -> list[Slab]:
    page_size = int(program["PAGE_SIZE"])
    nodes = list(for_each_online_node(program))
    found, seen = [], 0
    for cache in for_each_slab_cache(program):
        seen += 1
        if seen > _MAX_CACHES:
            raise ValueError(f"more than {_MAX_CACHES} slab caches")
        try:
            name = cache.name.string_().decode("utf-8", "backslashreplace")
            pages = _count_slabs(cache, nodes) * slab_cache_pages_per_slab(cache)
        except ABSENT as error:
            asked.miss(f"memory.slabs[{cache.value_():#x}]", str(error))
            continue
        found.append(Slab(name, pages * page_size))
    return heapq.nlargest(_SHOWN, found, key=lambda slab: slab.size)


def _count_slabs(cache: drgn.Object, nodes: list[int]) -> int:
    """Slabs of a cache, by the counters of its nodes (mm/slub.c, CONFIG_SLUB_DEBUG)."""
    try:
        places = [cache.node[n] for n in nodes]
    except AttributeError:  # since 7.1 (5ba6bc27b1f9)
        places = [cache.per_node[n].node for n in nodes]
    return sum(int(place.nr_slabs.counter) for place in places if place)


def _processes(
    asked: Asked, program: drgn.Program, tasks: list[tuple[drgn.Object, Task]]
) -> list[Process]:
    threads: dict[int, list[drgn.Object]] = {}
    for object_, task in tasks:
        threads.setdefault(task.tgid, []).append(object_)
    page_size = int(program["PAGE_SIZE"])
    found = []
    for object_, task in tasks:
        if task.pid != task.tgid:
            continue
        try:
            if object_.mm:
                rss = _count(object_.mm.read_(), _RESIDENT, threads[task.tgid]) * page_size
                found.append((rss, object_, task))
        except ABSENT as error:
            asked.miss(f"memory.processes[{task.pid}]", str(error))
    largest = heapq.nlargest(_SHOWN, found, key=lambda one: one[0])
    return [
        process
        for rss, object_, task in largest
        if (process := _describe_process(asked, rss, object_, task, threads[task.tgid]))
    ]


def _describe_process(
    asked: Asked, rss: int, leader: drgn.Object, task: Task, threads: list[drgn.Object]
) -> Process | None:
    def describe() -> Process:
        mm = leader.mm.read_()
        swapped = _count(mm, _SWAPPED, threads) * int(leader.prog_["PAGE_SIZE"])
        tables = int(mm.pgtables_bytes.counter)
        adjusted = int(leader.signal.oom_score_adj)
        return Process(task.pid, task.comm, rss, swapped, tables, adjusted)

    return asked.get(f"memory.processes[{task.pid}]", describe, ABSENT)


def _count(mm: drgn.Object, kinds: tuple[str, ...], threads: list[drgn.Object]) -> int:
    """Pages of a process: counted for its memory, and, before 6.2, by its threads apart."""
    program = mm.prog_
    rows = [int(program.constant(kind)) for kind in kinds]
    counts = mm.rss_stat
    if counts.type_.kind == drgn.TypeKind.ARRAY:  # since f1a7941243c1
        return sum(int(percpu_counter_sum(counts[row].address_of_())) for row in rows)
    pages = sum(int(counts.count[row].counter) for row in rows)
    if program.type("struct task_struct").has_member("rss_stat"):
        pages += sum(int(task.rss_stat.count[row]) for task in threads for row in rows)
    return pages
