"""What a kernel itself says of its direct map, and what else in its memory shows where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vmcorefs.core.paging.direct_map import DirectMap, Told, weigh
from vmcorefs.core.space.extents import Kind
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.arch.known import find_architecture

if TYPE_CHECKING:
    from vmcorefs.kernel.kernel import Kernel

_ADDRESSES = 1 << 64
_MAX_ROOTS = 1 << 9


def find_direct_map(kernel: Kernel) -> DirectMap:
    """Weigh the evidence for the place of a kernel's direct map.

    Raises:
        FormatError, UnsupportedError: if its page tables cannot be walked.
    """
    table, architecture = kernel.memory.table, find_architecture(kernel.machine)
    return weigh(
        kernel.mappings,
        image=None if architecture.image_in_direct_map else kernel.image_distance,
        memory=table.rows(table.kind != Kind.HOLE).ranges,
        told=tuple(_iter_told(kernel)),
        checks=(partial(_note_fits, kernel), partial(_sections_fit, kernel)),
    )


def _iter_told(kernel: Kernel) -> Iterator[Told]:
    with suppress(VmcorefsError):  # no such symbol, or its page is lost
        yield from find_architecture(kernel.machine).direct_map(
            kernel.vmcoreinfo, lambda name: kernel.image.pointer(kernel.symbol(name))
        )


def _note_fits(kernel: Kernel, distance: int) -> str:
    """``vmcoreinfo_note`` is allocated, so the direct map shows it (kernel/vmcore_info.c)."""
    with suppress(VmcorefsError):
        vaddr = kernel.image.pointer(kernel.symbol("vmcoreinfo_note"))
        text = kernel.vmcoreinfo.text
        # a note's header, and its name
        note = kernel.memory.pread(24 + len(text), (vaddr - distance) % _ADDRESSES)
        if note.endswith(text):
            return "vmcoreinfo_note points to VMCOREINFO by it"
    return ""


def _sections_fit(kernel: Kernel, distance: int) -> str:
    """Since 4.15 ``mem_section`` is allocated, as what it points to has always been."""
    info = kernel.vmcoreinfo
    with suppress(VmcorefsError):
        count = min(info.length("mem_section"), _MAX_ROOTS)
        at = (info.symbol("mem_section") - distance) % _ADDRESSES
        pointers = np.frombuffer(kernel.memory.pread(count * 8, at), dtype=f"{kernel.byte_order}u8")
        roots = pointers[pointers != 0].tolist()
        # each is where something is held
        for root in roots:
            kernel.memory.pread(8, (root - distance) % _ADDRESSES)
        if roots:
            return "mem_section and what it points to are in memory by it"
    return ""
