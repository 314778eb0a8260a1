"""``kcore``: the crashed kernel's virtual memory, as its own page tables map it.

A vmcore holds what is at fixed places in the kernel's address space: its image and the direct map.
Stacks, modules and per-CPU data are in vmalloc space, so gdb can follow a stack here and not there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from vmcorefs.core.extents import Kind, fill, merge, project
from vmcorefs.core.kcore_layout import lay_out_kcore
from vmcorefs.core.paging_mappings import Mappings
from vmcorefs.core.ranges import make_ranges
from vmcorefs.core.units import PAGE_SIZE
from vmcorefs.discovery.page_tables import find_page_tables, locate_page_tables
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.image import MemoryImage
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource, Source
from vmcorefs.tree.file import TreeFile, complete, whole
from vmcorefs.tree.vmcore import project_notes

log = logging.getLogger(__name__)

FAULTS = frozenset({Kind.MISSING, Kind.HOLE})
"""What is not mapped, or mapped to a device, was never memory: reading it fails."""


def kcore_files(image: MemoryImage) -> Iterator[TreeFile]:
    """``kcore``, if VMCOREINFO tells where the page tables are, of a kind that can be walked.

    They are walked when the file is first asked for.
    """
    header = image.plan.elfcorehdr.header
    vmcoreinfo = image.notes.vmcoreinfo
    if vmcoreinfo is None:
        return
    try:
        locate_page_tables(header.e_machine, vmcoreinfo)
    except (FormatError, UnsupportedError):
        return

    def make() -> Reader:
        memory = Reader("memory", image.memory, image.sources)
        mappings = find_page_tables(
            memory, header.e_machine, vmcoreinfo, byte_order=header.byte_order
        )
        for problem in mappings.problems:
            log.warning("kcore lacks what is behind %s", problem)
        return make_kcore(image, mappings)

    yield TreeFile("kcore", make)


def make_kcore(image: MemoryImage, mappings: Mappings) -> Reader:
    """Lay out the file and its table."""
    vmcoreinfo = image.notes.vmcoreinfo
    layout = lay_out_kcore(
        image.plan.elfcorehdr.header,
        vaddr=mappings.vaddr,
        paddr=mappings.paddr,
        size=mappings.size,
        notes_size=image.notes.size,
        page_size=vmcoreinfo.page_size if vmcoreinfo else PAGE_SIZE,
    )
    sources: tuple[Source, ...] = (*image.sources, BytesSource("kcore headers", layout.head))
    table = merge(
        whole(len(sources) - 1, len(layout.head)),
        project_notes(image, len(layout.head)),
        project(image.memory, layout.windows),
    )
    table = fill(table, make_ranges([(0, layout.notes_end)]), Kind.ZERO)
    return Reader("kcore", complete(table, layout.size, Kind.HOLE), sources, FAULTS)
