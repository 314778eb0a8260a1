"""The search for an elfcorehdr in the crash kernel's memory.

It is always aligned to at least 1 KiB (by kexec-tools to 1 KiB, by the kernel to a page), so a
search looks at the first word of each KiB. A capture kernel's memory is full of other ELF core
headers: its own merged one, pages of a copied vmcore, cores of processes; ``looks_like_elfcorehdr``
tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from vmcorefs.core.elf.elf import ELF_MAGIC, MAX_EHDR_SIZE, parse_ehdr, parse_phdrs
from vmcorefs.core.elf.elfcorehdr import (
    Elfcorehdr,
    check_found,
    looks_like_elfcorehdr,
    parse_elfcorehdr,
)
from vmcorefs.core.space.extents import Kind, restrict
from vmcorefs.core.space.ranges import Ranges, intersect, normalise
from vmcorefs.core.space.units import align_up
from vmcorefs.discovery.search.scan import GRID
from vmcorefs.errors import FaultError, FormatError, UnreadableError
from vmcorefs.reader import Reader
from vmcorefs.sources.unreadable import read_around

_CHUNK = 4 << 20
_WORD = 4
_MAGIC = int.from_bytes(ELF_MAGIC, "little")


class Found(msgspec.Struct, frozen=True):
    """An elfcorehdr in memory, and its physical address in bytes."""

    paddr: int
    elfcorehdr: Elfcorehdr
    raw: bytes


class Search(msgspec.Struct, frozen=True):
    """The result of a search.

    Attributes:
        found: Every valid elfcorehdr, in order of address.
        refused: Address and reason of each that looks like one but has impossible values.
        lost: Address and reason of each that looks like one but cannot be read whole.
    """

    found: tuple[Found, ...]
    refused: tuple[tuple[int, str], ...]
    lost: tuple[tuple[int, str], ...] = ()


def read_elfcorehdr(memory: Reader, paddr: int) -> Found:
    """Read and check the elfcorehdr at a known physical address.

    Raises:
        FormatError: if there is none, or it has impossible values.
        FaultError: if the image does not hold it.
        SourceIOError: if the image cannot be read.
    """
    header = parse_ehdr(memory.pread(MAX_EHDR_SIZE, paddr))
    raw = memory.pread(header.ehdr_size + header.e_phnum * header.phdr_size, paddr)
    return Found(paddr, parse_elfcorehdr(raw), raw)


def search_elfcorehdr(memory: Reader, where: Ranges, ram: Ranges) -> Search:
    """Search for elfcorehdrs on the 1 KiB grid.

    Args:
        memory: The captured memory, by physical address.
        where: Where to look, a normal set; parts that the image does not hold are skipped.
        ram: All RAM, a normal set: everything an elfcorehdr points to must be in it.

    Raises:
        SourceIOError: if the image cannot be read.
    """
    return examine_places(memory, _iter_elf_magic(memory, where), ram)


def examine_places(memory: Reader, places: Iterable[int], ram: Ranges) -> Search:
    """Check each of these physical addresses for an elfcorehdr.

    Args:
        memory: The captured memory, by physical address.
        places: Where the ELF magic was found.
        ram: All RAM, a normal set: everything an elfcorehdr points to must be in it.

    Raises:
        SourceIOError: if the image cannot be read.
    """
    found: list[Found] = []
    refused: list[tuple[int, str]] = []
    lost: list[tuple[int, str]] = []
    for paddr in places:
        try:
            if not _looks_right(memory, paddr):
                continue
            candidate = read_elfcorehdr(memory, paddr)
            check_found(candidate.elfcorehdr, ram)
            if not _describes(candidate.elfcorehdr, paddr):
                found.append(candidate)
        except UnreadableError as error:
            lost.append((paddr, str(error)))
        except (FormatError, FaultError) as error:
            refused.append((paddr, str(error)))
    return Search(tuple(found), tuple(refused), tuple(lost))


def _describes(elfcorehdr: Elfcorehdr, paddr: int) -> bool:
    # no PT_LOAD of an elfcorehdr covers the crash kernel's memory, so one that covers its own
    # place is a copy: the loader's, or the crashed kernel's own (image->elf_headers)
    ram = elfcorehdr.ram
    row = int(np.searchsorted(ram[:, 0], paddr, side="right")) - 1
    return row >= 0 and paddr < int(ram[row, 1])


def _looks_right(memory: Reader, paddr: int) -> bool:
    try:
        header = parse_ehdr(memory.pread(MAX_EHDR_SIZE, paddr))
        first = memory.pread(header.phdr_size, paddr + header.ehdr_size)
    except (FormatError, FaultError):
        return False
    return looks_like_elfcorehdr(parse_phdrs(header, first, 1))


def _iter_elf_magic(memory: Reader, where: Ranges) -> Iterator[int]:
    """Every address on the grid in ``where`` that holds the ELF magic."""
    held = restrict(memory.table, where).only(Kind.DATA).ranges
    # where a whole word still fits into the range
    places = np.stack((held[:, 0], held[:, 1] - (MAX_EHDR_SIZE - 1)), axis=1)
    stored = memory.data_ranges(where, _CHUNK)
    chunk = np.empty(_CHUNK, dtype=np.uint8)
    for start, end in intersect(normalise(places), stored).tolist():
        for paddr in range(align_up(start, GRID), end, _CHUNK):
            # near the end of the range, the word may reach past it
            size = min(_CHUNK, end - paddr + _WORD - 1)
            read_around(memory.pread_into, paddr, chunk.data[:size])
            words = chunk[: size - size % _WORD].view("<u4")[:: GRID // _WORD]
            for index in np.flatnonzero(words == _MAGIC).tolist():
                yield paddr + index * GRID
