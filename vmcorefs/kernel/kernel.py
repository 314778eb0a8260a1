"""One kernel in the memory, through its own page tables: what it says of itself."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property

from vmcorefs.core.elf.elf import EM_AARCH64, EM_RISCV, EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import find_direct_map, image_span
from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.structures.btf import Struct, read_structs
from vmcorefs.core.structures.kallsyms import SymbolTable, read_symbols
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.kernel.page_tables import find_page_tables, locate_page_tables
from vmcorefs.kernel.symbols import find_btf
from vmcorefs.kernel.virtual import read_through, through_distance
from vmcorefs.reader import Reader

MAX_IMAGE = 1 << 30
"""Largest kernel image that is believed, in bytes: KERNEL_IMAGE_SIZE of x86-64."""

_ADDRESSES = 1 << 64

# the key that only this architecture's arch_crash_save_vmcoreinfo writes
_TELLING = {
    "NUMBER(kimage_voffset)": EM_AARCH64,
    "NUMBER(va_kernel_pa_offset)": EM_RISCV,
    "NUMBER(phys_base)": EM_X86_64,
}


def machine_of(vmcoreinfo: Vmcoreinfo) -> int | None:
    """The architecture that wrote VMCOREINFO, as ``e_machine``; None if it is none of those known.

    See arch/*/kernel/vmcore_info*.c.
    """
    return next((m for key, m in _TELLING.items() if key in vmcoreinfo.values), None)


class Kernel:
    """A kernel that can be read: each part is worked out when it is first asked for.

    Attributes:
        memory: Its memory, by physical address.
        machine: ``e_machine``.
        vmcoreinfo: Its VMCOREINFO.
    """

    def __init__(self, memory: Reader, machine: int, vmcoreinfo: Vmcoreinfo) -> None:
        self.memory = memory
        self.machine = machine
        self.vmcoreinfo = vmcoreinfo

    @cached_property
    def mappings(self) -> Mappings:
        """What its page tables map; the errors are those of ``find_page_tables``."""
        return find_page_tables(self.memory, self.machine, self.vmcoreinfo)

    @cached_property
    def virtual(self) -> KernelMemory:
        """Its virtual memory."""
        # the machines whose page tables are walked have 64 bits, and Linux runs them little-endian
        return read_through(self.memory, self.mappings, byte_order="<", word_size=8)

    @cached_property
    def image(self) -> KernelMemory:
        """Its image alone: its code, its symbols, and variables that are not allocated.

        No page tables are needed, some of which may lie elsewhere.
        """
        return through_distance(self.memory, self.image_distance, byte_order="<", word_size=8)

    @cached_property
    def symbols(self) -> SymbolTable:
        """Its own symbols, modules' not included; the errors are those of ``read_symbols``."""
        return read_symbols(self.vmcoreinfo, self.image)

    @cached_property
    def direct_map(self) -> int | None:
        """How far its direct map is above physical addresses, modulo 2**64."""
        return find_direct_map(self.mappings)

    @property
    def image_distance(self) -> int:
        """How far its image is above physical addresses: the page tables' root is a part of it."""
        _, root = locate_page_tables(self.machine, self.vmcoreinfo)
        return self.vmcoreinfo.symbol("swapper_pg_dir") - root

    @cached_property
    def text(self) -> tuple[int, int, int] | None:
        """Its image, from ``_text`` to ``_end``: virtual address, physical address and size.

        Where there are no such symbols (no CONFIG_KALLSYMS_ALL), it is what is mapped of it.
        """
        distance = self.image_distance
        span = image_span(self.mappings, distance % _ADDRESSES)
        if span is None:
            return None
        start, end = span
        with suppress(VmcorefsError):
            start, end = self.symbol("_text"), self.symbol("_end")
        paddr = start - distance
        # parts of it are not mapped: arm64's first page, and what was freed after boot
        sound = 0 < end - start <= MAX_IMAGE and start < span[1] and span[0] < end and paddr >= 0
        return (start, paddr, end - start) if sound else None

    def symbol(self, name: str) -> int:
        """The address of a symbol.

        Raises:
            FormatError: if there is none, or the symbols cannot be decoded.
        """
        vaddr = self.symbols.lookup(name)
        if vaddr is None:
            raise FormatError(f"kallsyms: no {name}")
        return vaddr

    def structs(self, *names: str) -> dict[str, Struct]:
        """Layouts of structures, from its BTF.

        Raises:
            FormatError: if it has no BTF, or that has not all of them.
        """
        return read_structs(self._btf, self.virtual.byte_order, names)

    @cached_property
    def _btf(self) -> bytes:
        btf, why_not = find_btf(self.symbols, self.image)
        if btf is None:
            raise FormatError(why_not)
        return btf
