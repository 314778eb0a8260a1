"""What ``xl dump-core`` writes of a Xen domain: an ELF core with sections in place of PT_LOADs.

``.xen_pages`` has the pages of the domain, one behind the other; ``.xen_pfn`` has the page frame
number of each, or, of a paravirtual domain, ``.xen_p2m`` has pairs of that and the machine's own;
``.xen_prstatus`` has the registers of each CPU
(Xen's docs/misc/dump-core-format.txt, tools/libs/ctrl/xc_core.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.core.elf.elf import (
    EM_X86_64,
    ET_CORE,
    MAX_EHDR_SIZE,
    ElfHeader,
    decode_ehdr,
    iter_sections,
)
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.formats.vcpu_contexts import XEN_CONTEXT_SIZE, read_xen_context
from vmcorefs.core.formats.window import ReadAt
from vmcorefs.core.space.extents import Extents, Kind, validate
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError, LayoutError

MAX_RUNS: Final = 1 << 22
"""Most runs of pages accepted."""

_MOST_SECTIONS: Final = 1 << 10
_MOST_NAMES: Final = 1 << 16
_MOST_CPUS: Final = 1 << 13
_CHUNK: Final = 1 << 20  # pages whose numbers are read at a time
_NONE: Final = (1 << 64) - 1


class XenCore(msgspec.Struct, frozen=True):
    """Where the parts of a core are.

    Attributes:
        pages: Where the pages begin, in bytes.
        numbers: Where the page frame numbers begin.
        step: Bytes from one number to the next: 8, or 16 in a paravirtual domain.
        count: How many pages there are.
        page_size: Bytes in a page.
        byte_order: Of the numbers.
        states: Where the CPUs' registers begin; 0 if they are not there.
        cpus: How many CPUs have some there.
    """

    pages: int
    numbers: int
    step: int
    count: int
    page_size: int
    byte_order: ByteOrder
    states: int = 0
    cpus: int = 0

    @property
    def is_paravirtual(self) -> bool:
        """Whether its page tables have the machine's numbers, not the domain's."""
        return self.step == 16


def is_xen_core(head: bytes) -> bool:
    """Whether an ELF file is a core of sections alone.

    Args:
        head: Its first bytes.
    """
    try:
        header, fields = decode_ehdr(head)
    except FormatError:
        return False
    return header.e_type == ET_CORE and not header.e_phnum and fields["e_shnum"] > 0


def read_core(read: ReadAt, size: int) -> XenCore:
    """Find the parts of a core.

    Args:
        read: Reads the file.
        size: Bytes in it.

    Raises:
        FormatError: if it lacks one, or they cannot be true. A file that is cut has lost the
            numbers of its pages, which are behind the pages.
    """
    header, sections = _read_sections(read)
    pages, numbers, step = sections.get(b".xen_pages"), sections.get(b".xen_pfn"), 8
    if numbers is None:
        numbers, step = sections.get(b".xen_p2m"), 16
    if pages is None or numbers is None:
        raise FormatError(
            "a core of sections alone that lacks .xen_pages, or .xen_pfn and .xen_p2m: of one that"
            " was cut, nothing can be read, as these are told at its end"
        )
    count = numbers["sh_size"] // step
    page_size = pages["sh_size"] // max(count, 1)
    end = numbers["sh_offset"] + numbers["sh_size"]
    if page_size not in (4096, 16384, 65536) or pages["sh_size"] != count * page_size:
        raise FormatError(f"{pages['sh_size']} bytes for {count} pages of {page_size}")
    if end > size or pages["sh_offset"] + pages["sh_size"] > size:
        raise FormatError(f"{size} bytes, but the page frame numbers end at {end}")
    order: ByteOrder = header.byte_order
    core = XenCore(pages["sh_offset"], numbers["sh_offset"], step, count, page_size, order)
    states = sections.get(b".xen_prstatus")
    if states is None or states["sh_size"] % XEN_CONTEXT_SIZE or header.e_machine != EM_X86_64:
        return core
    cpus = states["sh_size"] // XEN_CONTEXT_SIZE
    if cpus > _MOST_CPUS or states["sh_offset"] + states["sh_size"] > size:
        raise FormatError(f"the registers of {cpus} CPUs at {states['sh_offset']:#x}")
    return replace(core, states=states["sh_offset"], cpus=cpus)


def _read_sections(read: ReadAt) -> tuple[ElfHeader, dict[bytes, dict[str, int]]]:
    """The header, and each section by its name."""
    header, fields = decode_ehdr(read(0, MAX_EHDR_SIZE))
    if fields["e_shnum"] > _MOST_SECTIONS:
        raise FormatError(f"{fields['e_shnum']} sections")
    raw = read(fields["e_shoff"], fields["e_shnum"] * fields["e_shentsize"])
    every = list(iter_sections(header, raw))
    if fields["e_shstrndx"] >= len(every):
        raise FormatError("it has no names of its sections")
    names = every[fields["e_shstrndx"]]
    text = read(names["sh_offset"], min(names["sh_size"], _MOST_NAMES))
    return header, {text[one["sh_name"] :].partition(b"\0")[0]: one for one in every}


def read_cpus(read: ReadAt, core: XenCore) -> CpuRegisters | None:
    """The registers of its CPUs; None if it has none that are known here."""
    if not core.cpus:
        return None
    places = (core.states + number * XEN_CONTEXT_SIZE for number in range(core.cpus))
    states = tuple(read_xen_context(read(place, XEN_CONTEXT_SIZE)) for place in places)
    return CpuRegisters(EM_X86_64, states)


def stored_pages(read: ReadAt, core: XenCore) -> Extents:
    """What the file holds, by the domain's addresses, as source 0.

    Raises:
        FormatError: if the numbers cannot be true, or there are too many runs.
    """
    parts = list(_runs(read, core))
    if sum(len(part) for part in parts) > MAX_RUNS:
        raise FormatError(f"more than {MAX_RUNS} runs of pages")
    rows = np.concatenate((np.empty((0, 3), dtype=np.int64), *parts))
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    try:
        return validate(
            Extents(
                start=rows[:, 0] * core.page_size,
                size=rows[:, 1] * core.page_size,
                offset=rows[:, 2] * core.page_size + core.pages,
                source=np.zeros(len(rows), dtype=np.int32),
                kind=np.full(len(rows), Kind.DATA, dtype=np.int8),
            )
        )
    except LayoutError as error:
        raise FormatError(f"a page is there twice: {error}") from error


def _runs(read: ReadAt, core: XenCore) -> Iterator[np.ndarray]:
    """First page frame number, pages and first index of each run of pages in order."""
    for first in range(0, core.count, _CHUNK):
        count = min(_CHUNK, core.count - first)
        raw = read(core.numbers + first * core.step, count * core.step)
        number = np.frombuffer(raw, dtype=f"{core.byte_order}u8")[:: core.step // 8]
        valid = np.flatnonzero(number != _NONE)
        number = number[valid]
        if (number >= MAX_ADDRESS // core.page_size).any():
            raise FormatError(f"page {int(number.max()):#x}, beyond {MAX_ADDRESS:#x}")
        page = number.astype(np.int64)
        starts = np.append(True, (np.diff(page) != 1) | (np.diff(valid) != 1))[: len(page)]
        begin = np.flatnonzero(starts)
        length = np.diff(np.append(begin, len(page)))
        yield np.stack((page[begin], length, valid[begin] + first), axis=1)
