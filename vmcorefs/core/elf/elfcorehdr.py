"""The elfcorehdr: the ELF header that is made when a crash kernel is loaded.

It is the plan for /proc/vmcore. kexec-tools (kexec/crashdump-elf.c) or the kernel
(kernel/crash_core.c, ``crash_prepare_elf64_headers``) puts it into the crash kernel's memory, and
the capture kernel finds it there by ``elfcorehdr=``. Its ``p_offset`` is a *physical address*: of
a note buffer, or of a RAM range. If ``p_offset`` of a PT_LOAD differs from ``p_paddr``, the bytes
are in the backup region, which kexec's purgatory filled.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from vmcorefs.core.elf.elf import (
    ELFCLASS32,
    ELFCLASS64,
    PF_RWX,
    PHDR_DTYPE,
    PT_LOAD,
    PT_NOTE,
    ElfHeader,
    PhdrTable,
    make_ehdr,
    parse_ehdr,
    parse_phdrs,
    select_phdrs,
)
from vmcorefs.core.elf.machines import is_always_32_bit
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.space.ranges import Ranges, normalise, total_size
from vmcorefs.core.space.units import MAX_ADDRESS, format_range
from vmcorefs.errors import FormatError

MAX_NOTE_SLOT = 1 << 20
"""Longest note buffer accepted, in bytes; VMCOREINFO's, one page and 36 bytes, is the
longest that a kernel makes, and a page is at most 64 KiB."""

MAX_NOTES = 64 << 20
"""Most bytes of note buffers accepted: those of a hundred thousand CPUs."""

_4_GIB = 1 << 32
_MAX_BEFORE_RAM = 256 << 20  # headers, notes, and the image of a 32-bit kernel

BACKUP_END = 1 << 20
"""No known architecture backs up memory above this (kexec-tools, kexec/arch/*/crashdump-*.h)."""


class Elfcorehdr(msgspec.Struct, frozen=True):
    """A checked elfcorehdr.

    Attributes:
        header: Its ELF header.
        phdrs: Its program headers, shape ``(n,)``, dtype ``PHDR_DTYPE``; each is PT_NOTE or
            PT_LOAD, and neither ``p_offset`` plus ``p_memsz`` nor ``p_paddr`` plus ``p_memsz`` is
            above ``MAX_ADDRESS``.
    """

    header: ElfHeader
    phdrs: PhdrTable

    @property
    def notes(self) -> PhdrTable:
        """Its PT_NOTE headers, one for each note buffer, of a CPU or of VMCOREINFO."""
        return select_phdrs(self.phdrs, self.phdrs["p_type"] == PT_NOTE)

    @property
    def loads(self) -> PhdrTable:
        """Its PT_LOAD headers that are not empty."""
        phdrs = self.phdrs
        return select_phdrs(phdrs, (phdrs["p_type"] == PT_LOAD) & (phdrs["p_memsz"] > 0))

    @property
    def ram(self) -> Ranges:
        """The physical ranges of its PT_LOADs, as a normal set."""
        loads = self.loads
        start = loads["p_paddr"].astype(np.int64)
        return normalise(np.stack((start, start + loads["p_memsz"].astype(np.int64)), axis=1))

    @property
    def backup(self) -> tuple[int, int, int] | None:
        """``(p_paddr, p_memsz, p_offset)`` of the PT_LOAD whose bytes lie in the backup region."""
        loads = self.loads
        moved = loads[loads["p_offset"] != loads["p_paddr"]]
        if not len(moved):
            return None
        load = moved[0]
        return int(load["p_paddr"]), int(load["p_memsz"]), int(load["p_offset"])

    def of_machine(self, e_machine: int) -> Elfcorehdr:
        """The same headers, of this machine."""
        header = self.header
        made = make_ehdr(
            e_machine=e_machine, elf_class=header.elf_class, byte_order=header.byte_order
        )
        return Elfcorehdr(made, self.phdrs)

    def by_address(self) -> Elfcorehdr:
        """The same headers for memory that is read where it belongs, not in the backup region."""
        phdrs = self.phdrs.copy()
        loads = phdrs["p_type"] == PT_LOAD
        phdrs["p_offset"][loads] = phdrs["p_paddr"][loads]
        return Elfcorehdr(self.header, phdrs)


def parse_elfcorehdr(data: bytes) -> Elfcorehdr:
    """Read and check an elfcorehdr.

    Args:
        data: Bytes that start with it; whatever follows the last program header is ignored.

    Raises:
        FormatError: if ``parse_ehdr`` refuses it, ``data`` is too short for its program headers, or
            one of them has a type, a size or an address that no kernel writes.
    """
    header = parse_ehdr(data)
    phdrs = parse_phdrs(header, data[header.ehdr_size :])
    _check_phdrs(phdrs)
    return Elfcorehdr(header, phdrs)


def _check_phdrs(phdrs: PhdrTable) -> None:
    for row, phdr in enumerate(phdrs):
        _check_phdr(f"program header {row}", phdr)
    notes_size = sum(phdrs["p_memsz"][phdrs["p_type"] == PT_NOTE].tolist())
    if notes_size > MAX_NOTES:
        raise FormatError(f"PT_NOTEs of {notes_size} bytes, expected at most {MAX_NOTES}")
    loads = phdrs[phdrs["p_type"] == PT_LOAD]
    moved = loads[loads["p_offset"] != loads["p_paddr"]]
    if len(moved) > 1:
        raise FormatError(
            f"p_offset differs from p_paddr in {len(moved)} PT_LOADs; the backup region is only one"
        )
    for load in moved:
        start, end = int(load["p_paddr"]), int(load["p_paddr"] + load["p_memsz"])
        if end > BACKUP_END:
            raise FormatError(
                f"p_offset differs from p_paddr in the PT_LOAD of {format_range(start, end)}; only"
                f" memory below {BACKUP_END:#x} is backed up"
            )


def _check_phdr(where: str, phdr: np.void) -> None:
    p_type, size, stored = (int(phdr[name]) for name in ("p_type", "p_memsz", "p_filesz"))
    if p_type not in (PT_LOAD, PT_NOTE):
        raise FormatError(f"{where}: p_type is {p_type:#x}, expected PT_LOAD or PT_NOTE")
    if p_type == PT_NOTE and size > MAX_NOTE_SLOT:
        raise FormatError(f"{where}: a PT_NOTE of {size} bytes, expected at most {MAX_NOTE_SLOT}")
    for field in ("p_offset", "p_paddr"):
        start = int(phdr[field])
        if start + size > MAX_ADDRESS:
            raise FormatError(
                f"{where}: {field} {start:#x} with p_memsz {size:#x} ends beyond {MAX_ADDRESS:#x}"
            )
    if stored != size:
        raise FormatError(f"{where}: p_filesz {stored:#x} differs from p_memsz {size:#x}")


def looks_like_elfcorehdr(phdrs: PhdrTable) -> bool:
    """Tell an elfcorehdr from other ELF core headers that lie in a capture kernel's memory.

    Its first program header is a note buffer with equal ``p_offset`` and ``p_paddr``, not 0. The
    merged header that the capture kernel itself makes (also found in the page cache once somebody
    copied /proc/vmcore) has one PT_NOTE with ``p_paddr`` 0, and the core file of a process has no
    notes at physical addresses either.
    """
    first = phdrs[0]
    return bool(
        first["p_type"] == PT_NOTE
        and first["p_paddr"] != 0
        and first["p_offset"] == first["p_paddr"]
    )


def check_found(candidate: Elfcorehdr, ram: Ranges) -> None:
    """Check an elfcorehdr that was found in memory, where nothing else vouches for it.

    Raises:
        FormatError: if it has no PT_LOAD, or notes or loads lie outside ``ram``.
    """
    loads = candidate.loads
    if not len(loads):
        raise FormatError("no PT_LOAD")
    # inside means that the row of `ram` that starts at or before the range reaches its end
    for name, table in (("PT_NOTE", candidate.notes), ("PT_LOAD", loads)):
        start = table["p_offset"].astype(np.int64)
        end = start + table["p_memsz"].astype(np.int64)
        row = np.searchsorted(ram[:, 0], start, side="right") - 1
        outside = (row < 0) | (end > ram[row, 1]) if len(ram) else np.ones(len(start), dtype=bool)
        if outside.any():
            bad = int(np.argmax(outside))
            raise FormatError(
                f"{name} [{int(start[bad]):#x}, {int(end[bad]):#x}) is not inside the map's RAM"
            )


def make_elfcorehdr(  # all but the first by name
    ram: Ranges,
    *,
    e_machine: int,
    byte_order: ByteOrder = "<",
    elf_class: int = 0,
    notes: Sequence[tuple[int, int]] = (),
    text: tuple[int, int, int] | None = None,
    direct_map: int | None = None,
) -> Elfcorehdr:
    """Build an elfcorehdr as the kernel does (kernel/crash_core.c, kexec/crashdump-elf.c).

    A PT_NOTE for each note buffer, a PT_LOAD for the kernel's image, and one for each range of RAM,
    in order of address, RWX, ``p_align`` 0.

    Args:
        ram: RAM without the crash kernel's ranges, a normal set.
        e_machine: ``EM_*``.
        byte_order: Of the crashed machine.
        elf_class: ``ELFCLASS64``, or ``ELFCLASS32`` where the machine has 32 bits, which is taken
            as kexec-tools does: only if RAM ends below 4 GiB. 0 leaves it to ``e_machine``.
        notes: Physical address and size of each note buffer: CPUs first, VMCOREINFO last.
        text: The kernel's image: virtual address, physical address and size.
        direct_map: How far the direct map is above physical addresses, modulo 2**64. If it is not
            known, ``p_vaddr`` is 0: makedumpfile and drgn then use the page tables, whereas they
            would trust a wrong address.
    """
    narrow = is_always_32_bit(e_machine) if not elf_class else elf_class == ELFCLASS32
    elf_class = ELFCLASS32 if narrow and _fits_elf32(ram) else ELFCLASS64
    phdrs = np.zeros(len(notes) + (text is not None) + len(ram), dtype=PHDR_DTYPE)
    at_notes, at_text, at_ram = np.split(phdrs, (len(notes), len(phdrs) - len(ram)))
    at_notes["p_type"] = PT_NOTE
    at_notes["p_paddr"] = [paddr for paddr, _ in notes]
    at_notes["p_memsz"] = [size for _, size in notes]
    for loads in (at_text, at_ram):
        loads["p_type"] = PT_LOAD
        loads["p_flags"] = PF_RWX
    if text is not None:
        at_text["p_vaddr"], at_text["p_paddr"], at_text["p_memsz"] = text
    at_ram["p_paddr"] = ram[:, 0]
    at_ram["p_memsz"] = ram[:, 1] - ram[:, 0]
    if direct_map is not None:
        at_ram["p_vaddr"] = at_ram["p_paddr"] + np.uint64(direct_map)  # wraps, as addresses do
    phdrs["p_offset"] = phdrs["p_paddr"]
    phdrs["p_filesz"] = phdrs["p_memsz"]
    header = make_ehdr(e_machine=e_machine, elf_class=elf_class, byte_order=byte_order)
    return Elfcorehdr(header, phdrs)


def _fits_elf32(ram: Ranges) -> bool:
    """Whether addresses, sizes, and the offsets of a vmcore with all of it have 32 bits."""
    if not len(ram):
        return True
    size = ram[:, 1] - ram[:, 0]
    last_offset = total_size(ram[:-1]) + _MAX_BEFORE_RAM
    return int(ram[-1, 1]) <= _4_GIB and int(size.max()) < _4_GIB and last_offset < _4_GIB
