"""``kcore``: the crashed kernel's virtual memory, as its own page tables map it.

A vmcore holds what is at fixed places in the kernel's address space: its image and the direct map.
Stacks, modules and per-CPU data are in vmalloc space, so gdb can follow a stack here and not there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from vmcorefs.core.elf.notes import pack_note
from vmcorefs.core.elf.registers import PID_OFFSET, decode_prstatus
from vmcorefs.core.layouts.kcore import lay_out_kcore
from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.space.extents import Kind, Windows, fill, line_up, merge, overlay, project
from vmcorefs.core.space.ranges import Int64Array, make_ranges
from vmcorefs.image import MemoryImage
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.sources.base import BytesSource, Source
from vmcorefs.tree.file import TreeFile, complete, whole
from vmcorefs.tree.vmcore import project_notes

log = logging.getLogger(__name__)

PID_MAX_LIMIT = 1 << 22
"""No process has this id or one above it (include/linux/threads.h)."""

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
        return make_kcore(image, kernel.mappings)

    yield TreeFile("kcore", make)


def make_kcore(image: MemoryImage, mappings: Mappings) -> Reader:
    """Lay out the file and its table."""
    layout = lay_out_kcore(
        image.plan.elfcorehdr.header,
        vaddr=mappings.vaddr,
        paddr=mappings.paddr,
        size=mappings.size,
        notes_size=image.notes.size,
        page_size=image.page_size,
    )
    places, ids = _distinct_pids(image)
    sources: tuple[Source, ...] = (
        *image.sources,
        BytesSource("kcore headers", layout.head),
        BytesSource("kcore process ids", ids),
    )
    table = merge(
        whole(len(sources) - 2, len(layout.head)),
        project_notes(image, len(layout.head)),
        project(image.memory, layout.windows),
    )
    made = line_up(np.arange(len(places), dtype=np.int64) * 4, np.full_like(places, 4), 0)
    patches = project(
        whole(len(sources) - 1, len(ids)), Windows(made.start, made.size, len(layout.head) + places)
    )
    table = overlay(table, patches)
    table = fill(table, make_ranges([(0, layout.notes_end)]), Kind.ZERO)
    return Reader("kcore", complete(table, layout.size, Kind.HOLE), sources, FAULTS)


def _distinct_pids(image: MemoryImage) -> tuple[Int64Array, bytes]:
    """Give each CPU's notes a process id of their own.

    gdb makes a thread of each note and tells them apart by ``pr_pid``. That is 0 for every idle
    CPU: each would take the place of the one before it, and gdb gives up if that was the first.

    Returns:
        Offset in the merged notes of each ``pr_pid`` that is to be another, shape ``(n,)``, and
        what it is to be, four bytes each.
    """
    header = image.plan.elfcorehdr.header
    places, ids, seen, start = [], [], {0}, 0
    for number, slot in enumerate(image.notes.slots):
        for note in slot.notes:
            state = decode_prstatus(note, header.e_machine, header.byte_order)
            if state is not None and state.pid in seen:
                desc = note.offset + len(pack_note(note.name, 0, b""))
                places.append(start + desc + PID_OFFSET)
                ids.append(PID_MAX_LIMIT + number)
            elif state is not None:
                seen.add(state.pid)
        start += slot.room
    packed = np.array(ids, dtype=f"{header.byte_order}i4").tobytes()
    return np.array(places, dtype=np.int64), packed
