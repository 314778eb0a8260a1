"""``kcore``: the crashed kernel's virtual memory, as its own page tables map it.

A vmcore holds what is at fixed places in the kernel's address space: its image and the direct map.
Stacks, modules and per-CPU data are in vmalloc space, so gdb can follow a stack here and not there.
It also has the registers of all tasks that no CPU was running, where a vmcore has those of the CPUs
alone, and on a machine that did not panic none at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.layouts.kcore import lay_out_kcore
from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.space.extents import (
    Kind,
    Windows,
    fill,
    line_up,
    merge,
    overlay,
    project,
    relocate,
)
from vmcorefs.core.space.ranges import Int64Array, make_ranges
from vmcorefs.image import MemoryImage
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.sources.base import BytesSource, Source
from vmcorefs.tree.debug.threads import Threads, list_threads
from vmcorefs.tree.file import TreeFile, complete, whole
from vmcorefs.tree.vmcore import project_notes

log = logging.getLogger(__name__)

FAULTS = DEFAULT_FAULTS | {Kind.HOLE}
"""What is not mapped, or mapped to a device, was never memory: reading it fails."""


def kcore_files(image: MemoryImage) -> Iterator[TreeFile]:
    """``kcore``, if VMCOREINFO says where the page tables are, and they can be walked.

    They are walked when the file is first asked for.
    """
    kernel = image.kernel
    if kernel is None or not kernel.has_page_tables:
        return

    def make() -> Reader:
        for problem in kernel.mappings.problems:
            log.warning("kcore lacks what is behind %s", problem)
        threads = list_threads(image)
        for warning in threads.warnings:
            log.warning("kcore: %s", warning)
        return make_kcore(image, kernel.mappings, threads)

    yield TreeFile("kcore", make)


def make_kcore(image: MemoryImage, mappings: Mappings, threads: Threads) -> Reader:
    """Lay out the file and its table."""
    header = image.plan.elfcorehdr.header
    notes = threads.pack_notes(header.e_machine, header.byte_order)
    layout = lay_out_kcore(
        header,
        vaddr=mappings.vaddr,
        paddr=mappings.paddr,
        size=mappings.size,
        notes_size=image.notes.size + len(notes),
        page_size=image.page_size,
    )
    places, ids = _changed_ids(threads, header.byte_order)
    sources: tuple[Source, ...] = (
        *image.sources,
        BytesSource("kcore headers", layout.head),
        BytesSource("kcore process ids", ids),
        BytesSource("kcore tasks", notes),
    )
    first, start = len(image.sources), len(layout.head)
    table = merge(
        whole(first, start),
        project_notes(image, start),
        relocate(whole(first + 2, len(notes)), start + image.notes.size),
        project(image.memory, layout.windows),
    )
    made = line_up(np.arange(len(places), dtype=np.int64) * 4, np.full_like(places, 4), 0)
    patches = project(whole(first + 1, len(ids)), Windows(made.start, made.size, start + places))
    table = overlay(table, patches)
    table = fill(table, make_ranges([(0, layout.notes_end)]), Kind.ZERO)
    return Reader("kcore", complete(table, layout.size, Kind.HOLE), sources, FAULTS)


def _changed_ids(threads: Threads, byte_order: ByteOrder) -> tuple[Int64Array, bytes]:
    """Where in the merged notes a CPU's ``pr_pid`` is to be another, and what, four bytes each."""
    changed = [(cpu.place, cpu.lwp) for cpu in threads.cpus if cpu.lwp != cpu.pid]
    packed = np.array([lwp for _, lwp in changed], dtype=f"{byte_order}i4").tobytes()
    return np.array([place for place, _ in changed], dtype=np.int64), packed
