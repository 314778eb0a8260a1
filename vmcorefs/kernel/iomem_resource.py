"""Finding ``iomem_resource`` without a symbol: nothing else in the kernel's data looks like it.

It is the node of the resource tree that has children and neither parent nor sibling, starts at 0,
is memory, and is called "PCI mem" (kernel/resource.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vmcorefs.core.maps.resources import RESOURCE
from vmcorefs.core.paging.mappings import UInt64Array
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.sources.unreadable import read_around

if TYPE_CHECKING:
    from vmcorefs.kernel.kernel import Kernel

_NAME = b"PCI mem"
_IORESOURCE_MEM = 0x200  # include/linux/ioport.h
_CHUNK = 1 << 20
_MAX_TRIES = 1 << 10  # names that are read; a real image has one or two
_WORDS = RESOURCE.size // 8
_START, _NAME_AT, _FLAGS, _PARENT, _SIBLING, _CHILD = (
    RESOURCE.offsets[field] // 8
    for field in ("start", "name", "flags", "parent", "sibling", "child")
)


def find_iomem_resource(kernel: Kernel) -> int:
    """The virtual address of ``iomem_resource``, by its content.

    Raises:
        FormatError: if it is not there, or the place of the kernel's image is not known.
        SourceIOError: if an input cannot be read.
    """
    if kernel.text is None:
        raise FormatError("no iomem_resource: the place of the kernel's image is not known")
    vaddr, paddr, size = kernel.text
    left = _MAX_TRIES
    for done in range(0, size, _CHUNK):
        length = min(_CHUNK + RESOURCE.size, size - done) // 8 * 8  # chunks overlap by a node
        chunk = bytearray(length)
        read_around(kernel.memory.pread_into, paddr + done, memoryview(chunk))
        words = np.frombuffer(chunk, dtype=f"{kernel.byte_order}u8")
        for row in _candidates(words, vaddr, vaddr + size):
            left -= 1
            if left < 0:
                raise FormatError(f"no iomem_resource among {_MAX_TRIES} candidates")
            if _is_named(kernel, int(words[row + _NAME_AT])):
                return vaddr + done + row * 8
    raise FormatError("no iomem_resource in the kernel's image")


def _candidates(words: UInt64Array, start: int, end: int) -> list[int]:
    """Where a node may begin whose name is a string of the kernel's image ``[start, end)``."""
    count = max(len(words) - _WORDS + 1, 0)

    def field(at: int) -> UInt64Array:
        return words[at : at + count]

    name = field(_NAME_AT)
    fits = (field(_FLAGS) == _IORESOURCE_MEM) & (start <= name) & (name < end)
    fits &= (field(_START) == 0) & (field(_PARENT) == 0) & (field(_SIBLING) == 0)
    rows: list[int] = np.flatnonzero(fits & (field(_CHILD) != 0)).tolist()
    return rows


def _is_named(kernel: Kernel, vaddr: int) -> bool:
    try:
        return kernel.image.string(vaddr, len(_NAME) + 1) == _NAME
    except VmcorefsError:
        return False
