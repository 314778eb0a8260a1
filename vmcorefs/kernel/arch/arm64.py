"""arm64."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.elf.elf import EM_AARCH64
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import Told
from vmcorefs.core.paging.formats import PageTableFormat, arm64
from vmcorefs.kernel.arch.architecture import ADDRESSES, Architecture, ReadPointer


def _image_distance(vmcoreinfo: Vmcoreinfo) -> int:
    return vmcoreinfo.number("kimage_voffset") % ADDRESSES


def _page_tables(vmcoreinfo: Vmcoreinfo) -> tuple[PageTableFormat, int]:
    # arch/arm64/kernel/vmcore_info.c
    va_bits = vmcoreinfo.number("VA_BITS")
    page_size = vmcoreinfo.page_size
    if page_size != 1 << 16:
        # a kernel for 52 bits uses fewer on an older CPU, and drops a level; only with 64 KiB pages
        # the root stays as it is (TTBR1_BADDR_4852_OFFSET)
        va_bits = 64 - vmcoreinfo.number("TCR_EL1_T1SZ", default=64 - va_bits)
    fmt = arm64(page_size=page_size, va_bits=va_bits)
    return fmt, (vmcoreinfo.symbol("swapper_pg_dir") - _image_distance(vmcoreinfo)) % ADDRESSES


def _direct_map(vmcoreinfo: Vmcoreinfo, _: ReadPointer) -> Iterator[Told]:
    # PAGE_OFFSET of 5.4 and later (arch/arm64/include/asm/memory.h)
    distance = -(1 << vmcoreinfo.number("VA_BITS")) - vmcoreinfo.number("PHYS_OFFSET")
    yield distance % ADDRESSES, "VMCOREINFO (VA_BITS, PHYS_OFFSET)", False


ARM64 = Architecture(
    machine=EM_AARCH64,
    name="arm64",
    told_by="NUMBER(kimage_voffset)",
    image_distance=_image_distance,
    page_tables=_page_tables,
    direct_map=_direct_map,
    phys_base_key="PHYS_OFFSET",
)
