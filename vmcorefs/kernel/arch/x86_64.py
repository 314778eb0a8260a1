"""x86-64."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import Told
from vmcorefs.core.paging.formats import PageTableFormat, x86_64
from vmcorefs.core.space.units import KERNEL_HALF
from vmcorefs.kernel.arch.architecture import ADDRESSES, Architecture, ReadPointer

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""__START_KERNEL_map (arch/x86/include/asm/page_64_types.h)."""

_PUD_SIZE = 1 << 30  # KASLR moves the direct map by multiples of this (arch/x86/mm/kaslr.c)


def _image_distance(vmcoreinfo: Vmcoreinfo) -> int:
    return (START_KERNEL_MAP - vmcoreinfo.number("phys_base")) % ADDRESSES


def _page_tables(vmcoreinfo: Vmcoreinfo) -> tuple[PageTableFormat, int]:
    # arch/x86/kernel/vmcore_info_64.c; the keys came with 4.17 and 5.1, with what they describe
    levels = 5 if vmcoreinfo.number("pgtable_l5_enabled", default=0) else 4
    fmt = x86_64(levels=levels, sme_mask=vmcoreinfo.number("sme_mask", default=0) % ADDRESSES)
    return fmt, (vmcoreinfo.symbol("swapper_pg_dir") - _image_distance(vmcoreinfo)) % ADDRESSES


def _direct_map(_: Vmcoreinfo, read_pointer: ReadPointer) -> Iterator[Told]:
    # without CONFIG_DYNAMIC_MEMORY_LAYOUT it is a constant, which depends on the version
    value = read_pointer("page_offset_base")
    if value >= KERNEL_HALF and not value % _PUD_SIZE:
        yield value, "page_offset_base", True


X86_64 = Architecture(
    machine=EM_X86_64,
    name="x86-64",
    told_by="NUMBER(phys_base)",
    image_distance=_image_distance,
    page_tables=_page_tables,
    direct_map=_direct_map,
    phys_base_key="phys_base",
)
