"""What has to be known of an architecture to read its kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import Told
from vmcorefs.core.paging.formats import PageTableFormat
from vmcorefs.core.space.units import KERNEL_HALF

ADDRESSES = 1 << 64

ReadPointer: TypeAlias = Callable[[str], int]
"""``read_pointer(name)``: the value of the kernel's variable of that name, a pointer.

Raises:
    VmcorefsError: if there is no such symbol, or its page is lost.
"""


class Architecture(msgspec.Struct, frozen=True):
    """An architecture whose kernels can be read from memory alone.

    Its functions raise ``FormatError`` if VMCOREINFO lacks a key, or a key cannot be true, and
    ``UnsupportedError`` for a format that cannot be walked.

    Attributes:
        machine: ``e_machine``.
        name: For messages.
        told_by: A key of VMCOREINFO that only this architecture's ``arch_crash_save_vmcoreinfo``
            writes (arch/*/kernel/vmcore_info*.c).
        image_distance: How far the kernel's image is above physical addresses, modulo 2^64.
        page_tables: The format of the kernel's page tables, and the physical address of the root.
        direct_map: What VMCOREINFO and the kernel's variables say of the direct map's distance.
        phys_base_key: What ``phys_base`` in a kdump file's sub header is on this architecture, as a
            key of ``NUMBER``; empty if it is the first address of RAM (makedumpfile: arch/*.c).
        image_in_direct_map: The kernel's image has no mapping of its own.
        linked_from: The lowest address that its image may be linked at.
    """

    machine: int
    name: str
    told_by: str
    image_distance: Callable[[Vmcoreinfo], int]
    page_tables: Callable[[Vmcoreinfo], tuple[PageTableFormat, int]]
    direct_map: Callable[[Vmcoreinfo, ReadPointer], Iterator[Told]]
    phys_base_key: str = ""
    image_in_direct_map: bool = False
    linked_from: int = KERNEL_HALF
