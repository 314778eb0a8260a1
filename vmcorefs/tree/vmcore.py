"""``vmcore``: the dead machine's memory as the ELF core that its own kernel would have shown."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.layouts.filtered import leave_out
from vmcorefs.core.layouts.kernel import VmcoreLayout, lay_out_vmcore, note_align
from vmcorefs.core.layouts.universal import lay_out_universal
from vmcorefs.core.space.columns import BoolArray
from vmcorefs.core.space.extents import (
    Extents,
    Kind,
    Windows,
    fill,
    line_up,
    make_extents,
    merge,
    overlay,
    project,
    relocate,
    restrict,
)
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import align_up
from vmcorefs.errors import UnsupportedError
from vmcorefs.image import MemoryImage
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.sources.base import BytesSource, Source
from vmcorefs.tree.file import TreeFile, complete, table_file, text_file, whole
from vmcorefs.tree.filtered import Filter, find_left_out


def whole_vmcore(
    image: MemoryImage,
    faults: frozenset[Kind] = DEFAULT_FAULTS,
    filtered: Filter | None = None,
) -> TreeFile:
    """The file, as it stands if the image is one; the rest as for ``lay_out`` and ``vmcore_file``.

    Raises:
        LayoutError: if it would be larger than a file can be.
        UnsupportedError: as ``lay_out`` says.
    """
    if image.vmcore is not None and filtered is None:
        return table_file("vmcore", image.vmcore, image.sources, faults)
    filtered = filtered or find_left_out(image)
    return vmcore_file(image, lay_out(image, filtered), faults, filtered)


def lay_out(image: MemoryImage, filtered: Filter | None = None) -> VmcoreLayout:
    """Lay out the vmcore by the rules of the kernel that died, or so that every tool opens it.

    The capture kernel's page size and release decide; it is taken to be the crashed kernel's twin,
    as it is wherever kdump is set up by a distribution.

    Args:
        image: The dead machine.
        filtered: What a dump level leaves out of it.

    Raises:
        LayoutError: if it would be larger than a file can be.
        UnsupportedError: if the machine's own headers have 32 bits and that is too few, or the
            universal layout cannot be had.
    """
    plan = image.plan.elfcorehdr
    try:
        if filtered is None:
            return _lay_out_all(image, plan)
        return leave_out(_lay_out_all(image, plan.by_address()), filtered.excluded)
    except UnsupportedError as error:
        raise UnsupportedError(f"{image.inputs[0].name}: {error}") from error


def _lay_out_all(image: MemoryImage, plan: Elfcorehdr) -> VmcoreLayout:
    vmcoreinfo, size, page_size = image.notes.vmcoreinfo, image.notes.size, image.page_size
    align = note_align(vmcoreinfo)
    if image.config.layout == "universal":
        return lay_out_universal(plan, size, vmcoreinfo, page_size=page_size, note_align=align)
    return lay_out_vmcore(plan, size, page_size=page_size, note_align=align)


def vmcore_file(
    image: MemoryImage,
    layout: VmcoreLayout,
    faults: frozenset[Kind] = DEFAULT_FAULTS,
    filtered: Filter | None = None,
) -> TreeFile:
    """The file: headers and notes, then the pages of every PT_LOAD.

    Its table is made when it is first asked for: the layout alone says how large it is.

    Args:
        image: The dead machine.
        layout: Of ``lay_out``.
        faults: Kinds that are an error to read; with ``filtered``, EXCLUDED is not one.
        filtered: What a dump level leaves out, as for ``layout``.
    """
    if filtered is not None:
        faults -= {Kind.EXCLUDED}

    def reader() -> Reader:
        table, sources = _vmcore_table(image, layout, filtered)
        return Reader("vmcore", table, sources, faults)

    return TreeFile("vmcore", reader, lambda: layout.size)


def _vmcore_table(
    image: MemoryImage, layout: VmcoreLayout, filtered: Filter | None
) -> tuple[Extents, tuple[Source, ...]]:
    head = BytesSource("vmcore headers", layout.head)
    sources: tuple[Source, ...] = (*image.sources, head)
    table = merge(
        whole(len(sources) - 1, len(layout.head)),
        project_notes(image, len(layout.head)),
        _project_loads(image, layout.windows, layout.moved)
        if filtered is None
        else project(filtered.apply(image.memory), layout.windows),
    )
    # a PT_LOAD promises RAM; what its first and last page show beside it may be anything
    table = fill(table, layout.loads, Kind.MISSING)
    notes_end = len(layout.head) + align_up(image.notes.size, layout.page_size)
    table = fill(table, make_ranges([(0, notes_end)]), Kind.ZERO)
    return complete(table, layout.size, Kind.HOLE), sources


def notes_file(image: MemoryImage) -> TreeFile:
    """``crash_notes``: exactly the bytes of the vmcore's PT_NOTE."""
    return table_file("crash_notes", project_notes(image, 0), image.sources)


def cpu_note_files(image: MemoryImage) -> Iterator[TreeFile]:
    """``crash_notes.d/cpuN``: the whole note buffer of the Nth CPU that the elfcorehdr lists.

    N is the CPU's number wherever the numbers have no gaps. A buffer that its CPU never filled is
    all zeros, as it is in memory.
    """
    for number, slot in enumerate(image.notes.cpu_slots):
        buffer = np.array([slot.start]), np.array([len(slot.data)])
        table = project(_space(image), line_up(*buffer, to=0))
        yield table_file(f"crash_notes.d/cpu{number}", table, image.sources)


def register_files(image: MemoryImage) -> Iterator[TreeFile]:
    """``cpu/N/registers``: what the Nth CPU's NT_PRSTATUS says, as text.

    N is as in ``crash_notes.d``. A CPU that saved no registers, or has them in a form that is not
    known, has no such file.
    """
    for number, slot in enumerate(image.notes.cpu_slots):
        state = slot.state(image.plan.elfcorehdr.header)
        if state is not None:
            yield text_file(f"cpu/{number}/registers", state.format)


def project_notes(image: MemoryImage, to: int) -> Extents:
    """Show the merged notes at ``to``, from wherever their slots are."""
    slots = image.notes.slots
    start = np.array([slot.start for slot in slots], dtype=np.int64)
    size = np.array([slot.size for slot in slots], dtype=np.int64)
    room = np.array([slot.room for slot in slots], dtype=np.int64)
    places = to + np.cumsum(room) - room
    shown = size > 0
    table = project(_space(image), Windows(start[shown], size[shown], places[shown]))
    padding = np.stack((places + size, places + room), axis=1)
    table = fill(table, padding[size < room], Kind.ZERO)
    if not image.notes.given:
        return table
    at = to + int(room.sum())
    span = make_ranges([(at, at + len(image.notes.given))])
    return merge(table, make_extents(span, kind=Kind.DATA, source=len(image.sources) - 1))


def _space(image: MemoryImage) -> Extents:
    """What the note slots are in."""
    return image.memory if image.notes.space is None else image.notes.space


def _project_loads(image: MemoryImage, windows: Windows, moved: BoolArray) -> Extents:
    """Show physical memory in each PT_LOAD's place.

    A PT_LOAD whose ``p_offset`` is not its ``p_paddr`` is read through the backup region: there,
    and only there, the address that the kernel reads is not the address that it means.
    """
    backup = image.plan.elfcorehdr.backup
    if backup is None or not moved.any():
        return project(image.memory, windows)
    paddr, size, offset = backup
    low = restrict(image.memory, make_ranges([(paddr, paddr + size)]))
    through_backup = overlay(image.captured, relocate(low, offset - paddr))
    return merge(
        project(image.memory, windows.rows(~moved)), project(through_backup, windows.rows(moved))
    )
