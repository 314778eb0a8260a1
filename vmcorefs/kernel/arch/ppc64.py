"""ppc64, Book3S, with radix page tables; see arch/powerpc/kernel/vmcore_info.c."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.elf.elf import EM_PPC64
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import Told
from vmcorefs.core.paging.formats import PageTableFormat, ppc64_radix
from vmcorefs.errors import UnsupportedError
from vmcorefs.kernel.arch.architecture import Architecture, ReadPointer

_LINEAR_MAP = 0xC000000000000000  # PAGE_OFFSET; the kernel's image is in it, wherever it runs


def _image_distance(_: Vmcoreinfo) -> int:
    return _LINEAR_MAP


def _page_tables(vmcoreinfo: Vmcoreinfo) -> tuple[PageTableFormat, int]:
    if not vmcoreinfo.number("RADIX_MMU", default=0):
        raise UnsupportedError(
            "ppc64: cannot walk its page tables: they are no radix tree, or older than RADIX_MMU"
        )
    fmt = ppc64_radix(page_size=vmcoreinfo.page_size)
    return fmt, vmcoreinfo.symbol("swapper_pg_dir") - _LINEAR_MAP


def _direct_map(_: Vmcoreinfo, __: ReadPointer) -> Iterator[Told]:
    yield _LINEAR_MAP, "the architecture (PAGE_OFFSET)", True


PPC64 = Architecture(
    machine=EM_PPC64,
    name="ppc64",
    told_by="NUMBER(RADIX_MMU)",
    image_distance=_image_distance,
    page_tables=_page_tables,
    direct_map=_direct_map,
    image_in_direct_map=True,
)
