"""The kernel that died: found once, and asked for everything that is read from it."""

from __future__ import annotations

from contextlib import suppress
from threading import RLock

from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.elf.machines import long_bits, usual_byte_order
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.direct_map import DirectMap, image_span
from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.space.extents import restrict
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import format_size
from vmcorefs.core.structures.kallsyms import SymbolTable, read_symbols
from vmcorefs.core.structures.kernel_memory import MAX_IMAGE, KernelMemory
from vmcorefs.core.structures.printk import names_log, read_log
from vmcorefs.core.structures.types.btf import Struct, read_structs
from vmcorefs.core.structures.version import read_banner
from vmcorefs.errors import FaultError, FormatError, UnsupportedError, VmcorefsError
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.kernel.direct_map import find_direct_map
from vmcorefs.kernel.maps import KernelMap, read_kernel_map
from vmcorefs.kernel.once import once
from vmcorefs.kernel.page_tables import find_page_tables
from vmcorefs.kernel.pages import KernelPages, find_kernel_pages
from vmcorefs.kernel.symbols import Symbols, find_btf, find_symbols
from vmcorefs.kernel.tasks import KernelTasks, find_tasks
from vmcorefs.kernel.virtual import read_through, through_distance, through_loads
from vmcorefs.reader import Reader

_ADDRESSES = 1 << 64


class Kernel:
    """A kernel that can be read; each part is worked out once, when it is first asked for.

    Attributes:
        memory: Its memory, by physical address.
        machine: ``e_machine``.
        vmcoreinfo: Its VMCOREINFO.
        elfcorehdr: The headers that say where its image and its direct map are; None as long as
            they have not been chosen.
        told_order: Its byte order, as its note in memory has it; None if only the headers say it.
        lock: Held while a part is worked out.
    """

    def __init__(
        self,
        memory: Reader,
        machine: int,
        vmcoreinfo: Vmcoreinfo,
        elfcorehdr: Elfcorehdr | None = None,
        told_order: ByteOrder | None = None,
    ) -> None:
        self.memory = memory
        self.machine = machine
        self.vmcoreinfo = vmcoreinfo
        self.elfcorehdr = elfcorehdr
        self.told_order = told_order
        self.lock = RLock()

    def with_headers(self, memory: Reader, elfcorehdr: Elfcorehdr) -> Kernel:
        """The same kernel with these headers; what is known of it and still holds is kept.

        Args:
            memory: Its memory; where this is another than before, only what its image tells is
                kept, and that only if no byte of it is another.
            elfcorehdr: The headers.
        """
        other = Kernel(memory, self.machine, self.vmcoreinfo, elfcorehdr, self.told_order)
        kept: tuple[str, ...] = ()
        if self.memory.table.is_same(memory.table):
            kept = ("mappings", "symbols", "_btf", "map", "direct_map")
        elif self._has_image_of(memory):
            kept = ("symbols", "_btf")
        other.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        return other

    def _has_image_of(self, memory: Reader) -> bool:
        if self.text is None:
            return False
        _, paddr, size = self.text
        image = make_ranges([(paddr, paddr + size)])
        return restrict(self.memory.table, image).is_same(restrict(memory.table, image))

    def is_same(self, machine: int, vmcoreinfo: Vmcoreinfo) -> bool:
        """Whether this is the kernel of the same note."""
        return self.machine == machine and self.vmcoreinfo.text == vmcoreinfo.text

    @property
    def byte_order(self) -> ByteOrder:
        """``<`` or ``>``."""
        if self.told_order is not None:
            return self.told_order
        elfcorehdr = self.elfcorehdr
        return elfcorehdr.header.byte_order if elfcorehdr else usual_byte_order(self.machine)

    @property
    def word_size(self) -> int:
        """Bytes in a ``long`` and in a pointer: 4 or 8."""
        elfcorehdr = self.elfcorehdr
        return 8 if elfcorehdr is None else long_bits(elfcorehdr.header, self.vmcoreinfo) // 8

    @once
    def mappings(self) -> Mappings:
        """What its page tables map; the errors are those of ``find_page_tables``."""
        return find_page_tables(
            self.memory, self.machine, self.vmcoreinfo, byte_order=self.byte_order
        )

    @property
    def has_page_tables(self) -> bool:
        """Whether the place and the format of its page tables are known."""
        try:
            locate_page_tables(self.machine, self.vmcoreinfo)
        except (FormatError, UnsupportedError):
            return False
        return True

    @once
    def virtual(self) -> KernelMemory:
        """Its virtual memory, as its page tables map it; the errors are those of ``mappings``."""
        return read_through(
            self.memory, self.mappings, byte_order=self.byte_order, word_size=self.word_size
        )

    @once
    def image(self) -> KernelMemory:
        """Memory that covers at least its image: code, symbols and static variables.

        It needs no page tables, some of which may be elsewhere.
        """
        if self.elfcorehdr is not None:
            return through_loads(self.memory, self.elfcorehdr, self.vmcoreinfo)
        return through_distance(
            self.memory, self.image_distance, byte_order=self.byte_order, word_size=self.word_size
        )

    @once
    def symbols(self) -> SymbolTable:
        """Its own symbols, without those of modules; the errors are those of ``read_symbols``."""
        return read_symbols(self.vmcoreinfo, self.image)

    @property
    def names_symbols(self) -> bool:
        """Whether VMCOREINFO says where kallsyms' tables are (Linux 6.0 and later)."""
        return "SYMBOL(kallsyms_names)" in self.vmcoreinfo.values

    @once
    def all_symbols(self) -> Symbols:
        """Its symbols, those of its modules, and its types.

        Raises:
            FormatError: if its own symbols cannot be decoded.
        """
        try:
            own = self.symbols
        except VmcorefsError as error:
            raise FormatError(f"no kallsyms: {error}") from error
        mapped = None  # modules are then missing, and the symbols' warnings say so
        with suppress(VmcorefsError):
            mapped = self.virtual
        return find_symbols(own, self._btf, mapped)

    @property
    def banner(self) -> bytes:
        """The line of /proc/version, newline included.

        Raises:
            VmcorefsError: if it cannot be read: without CONFIG_KALLSYMS_ALL only functions have a
                symbol.
        """
        return read_banner(self.image, self.symbol("linux_banner"))

    @once
    def direct_map(self) -> DirectMap:
        """Its direct map, and the evidence for it; the errors are those of ``mappings``."""
        return find_direct_map(self)

    @property
    def image_distance(self) -> int:
        """How far its image is above physical addresses: the page tables' root is a part of it."""
        _, root = locate_page_tables(self.machine, self.vmcoreinfo)
        return self.vmcoreinfo.symbol("swapper_pg_dir") - root

    @once
    def text(self) -> tuple[int, int, int] | None:
        """Its image, from ``_text`` to ``_end``: virtual address, physical address and size.

        Without these symbols (no CONFIG_KALLSYMS_ALL), it is the mapped part of the image.
        """
        distance = self.image_distance
        span = image_span(self.mappings, distance % _ADDRESSES)
        if span is None:
            return None
        start, end = span
        with suppress(VmcorefsError):
            start, end = self.symbol("_text"), self.symbol("_end")
        paddr = start - distance
        # parts of it are not mapped: arm64's first page, and memory freed after boot
        sound = 0 < end - start <= MAX_IMAGE and start < span[1] and span[0] < end and paddr >= 0
        return (start, paddr, end - start) if sound else None

    @once
    def map(self) -> KernelMap | None:
        """Its own memory map.

        Raises:
            SourceIOError: if an input cannot be read.
        """
        return read_kernel_map(self)

    @once
    def pages(self) -> KernelPages:
        """What each page was used for.

        Raises:
            FormatError: if VMCOREINFO leads to no page array.
            SourceIOError: if an input cannot be read.
        """
        try:
            return find_kernel_pages(self)
        except (FormatError, FaultError) as error:
            raise FormatError(f"cannot tell what pages were used for: {error}") from error

    @once
    def tasks(self) -> KernelTasks:
        """Its tasks; the errors are those of ``find_tasks``."""
        return find_tasks(self)

    @once
    def log(self) -> tuple[bytes | None, str]:
        """Its log as text, if VMCOREINFO promises one, and what is wrong with it.

        None if nothing of it can be decoded.
        """
        if not names_log(self.vmcoreinfo):
            return None, ""
        try:
            found = read_log(self.vmcoreinfo, self.image)
        except VmcorefsError as error:
            return None, f"no dmesg: {error}"
        size = format_size(found.lost)
        return found.text, f"dmesg: {size} of the log could not be read" if found.lost else ""

    def symbol(self, name: str) -> int:
        """The address of a symbol.

        Raises:
            FormatError: if there is none, or the symbols cannot be decoded.
        """
        return self.symbols.require(name)

    @property
    def types(self) -> bytes:
        """Its BTF.

        Raises:
            FormatError: if it has none, or the symbols cannot be decoded.
        """
        btf, why_not = self._btf
        if btf is None:
            raise FormatError(why_not)
        return btf

    def structs(self, *names: str) -> dict[str, Struct]:
        """Layouts of structures, from its BTF.

        Raises:
            FormatError: if it has no BTF, or BTF lacks one of them.
        """
        return read_structs(self.types, self.byte_order, names)

    @once
    def _btf(self) -> tuple[bytes | None, str]:
        return find_btf(self.symbols, self.image)
