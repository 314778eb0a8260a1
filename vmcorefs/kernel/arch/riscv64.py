"""riscv64; see arch/riscv/kernel/vmcore_info.c."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.elf.elf import EM_RISCV
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import Told
from vmcorefs.core.paging.formats import PageTableFormat, riscv64
from vmcorefs.kernel.arch.architecture import ADDRESSES, Architecture, ReadPointer


def _image_distance(vmcoreinfo: Vmcoreinfo) -> int:
    return vmcoreinfo.number("va_kernel_pa_offset") % ADDRESSES


def _page_tables(vmcoreinfo: Vmcoreinfo) -> tuple[PageTableFormat, int]:
    fmt = riscv64(va_bits=vmcoreinfo.number("VA_BITS"))  # it follows from satp's mode
    return fmt, (vmcoreinfo.symbol("swapper_pg_dir") - _image_distance(vmcoreinfo)) % ADDRESSES


def _direct_map(vmcoreinfo: Vmcoreinfo, _: ReadPointer) -> Iterator[Told]:
    distance = vmcoreinfo.number("PAGE_OFFSET") - vmcoreinfo.number("phys_ram_base")
    yield distance % ADDRESSES, "VMCOREINFO (PAGE_OFFSET, phys_ram_base)", False


RISCV64 = Architecture(
    machine=EM_RISCV,
    name="riscv64",
    told_by="NUMBER(va_kernel_pa_offset)",
    image_distance=_image_distance,
    page_tables=_page_tables,
    direct_map=_direct_map,
)
