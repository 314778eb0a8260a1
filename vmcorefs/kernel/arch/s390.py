"""s390x: see arch/s390/kernel/vmcore_info.c, and arch/s390/boot/startup.c for where things lie.

Since 6.10 the kernel's image is at the top of its address space, not where it is in memory. That
space has as many levels as it needs: only kernels that need more than 4 TiB are above them.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.elf.machines import EM_S390
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import Told
from vmcorefs.core.paging.formats import PageTableFormat, s390x
from vmcorefs.kernel.arch.architecture import ADDRESSES, Architecture, ReadPointer

_REGION2_SIZE = 1 << 42  # what three levels map (arch/s390/include/asm/pgtable.h)


def _image_distance(vmcoreinfo: Vmcoreinfo) -> int:
    offset = vmcoreinfo.address("KERNELOFFSET") - vmcoreinfo.address("KERNELOFFPHYS")
    return offset % ADDRESSES


def _page_tables(vmcoreinfo: Vmcoreinfo) -> tuple[PageTableFormat, int]:
    root = vmcoreinfo.symbol("swapper_pg_dir")
    fmt = s390x(levels=3 if root < _REGION2_SIZE else 4)
    return fmt, (root - _image_distance(vmcoreinfo)) % ADDRESSES


def _direct_map(vmcoreinfo: Vmcoreinfo, _: ReadPointer) -> Iterator[Told]:
    yield vmcoreinfo.address("IDENTITYBASE"), "VMCOREINFO (IDENTITYBASE)", True


S390X = Architecture(
    machine=EM_S390,
    name="s390x",
    told_by="SYMBOL(lowcore_ptr)",
    image_distance=_image_distance,
    page_tables=_page_tables,
    direct_map=_direct_map,
    linked_from=0,
)
