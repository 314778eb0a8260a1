"""VMware's suspended virtual machines and snapshots (.vmss, .vmsn): where their memory is.

A header lists groups, and a group has tags (``tags``). The group ``memory`` has the memory in a
block, or says how the file .vmem beside it belongs (crash's vmware_vmss.c; volatility3's
layers/vmware.py). All is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.formats.magics import VMWARE_PARTIAL
from vmcorefs.core.formats.vmware.cpus import read_registers
from vmcorefs.core.formats.vmware.tags import tags_of, take_all
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

_HEADER: Final = struct.Struct("<3I")
_MOST_GROUPS: Final = 1 << 10
_MOST_REGIONS: Final = 1 << 12
_PAGE: Final = 4096


class Region(msgspec.Struct, frozen=True):
    """A range of memory.

    Attributes:
        paddr: Its first physical address.
        offset: Where it begins in the memory.
        size: Bytes in it.
    """

    paddr: int
    offset: int
    size: int


class State(msgspec.Struct, frozen=True):
    """What a file says of memory.

    Attributes:
        regions: Its ranges; empty if offsets are physical addresses.
        at: Where the memory is in the file itself; None if it is in a file of its own.
        size: Bytes of it there.
        is_partial: Whether the file is marked as not complete.
        cpus: The registers of its CPUs; None if it does not have all of a CPU's.
    """

    regions: tuple[Region, ...]
    at: int | None
    size: int
    is_partial: bool
    cpus: CpuRegisters | None = None


def read_state(window: Window) -> State:
    """Read the headers.

    Raises:
        FormatError: if they cannot be true.
        UnsupportedError: if the memory is compressed.
    """
    magic, _version, count = _HEADER.unpack(take_all(window, 0, _HEADER.size, "its header"))
    if count > _MOST_GROUPS:
        raise FormatError(f"{count} groups")
    columns: dict[bytes, dict[int, int]] = {
        b"regionPageNum": {},
        b"regionPPN": {},
        b"regionSize": {},
    }
    told, at, size = None, None, 0
    for tag in tags_of(window, count, b"memory"):
        if tag.name == b"regionsCount":
            told = tag.value
        elif tag.name in columns and tag.indices:
            columns[tag.name][tag.indices[0]] = tag.value
        elif tag.name == b"Memory" and tag.block is not None:
            at, size = tag.block, tag.value
    if told is None and at is not None and at + size > window.size:
        raise FormatError("it is cut within its memory, and does not tell before where that lies")
    told = told or 0
    if told > _MOST_REGIONS or any(told > len(column) for column in columns.values()):
        raise FormatError(f"{told} regions of memory, of which not all are described")
    regions = tuple(_regions(columns, told))
    return State(regions, at, size, magic == VMWARE_PARTIAL, _registers(window, count))


def _registers(window: Window, count: int) -> CpuRegisters | None:
    try:
        return read_registers(window, tags_of(window, count, b"cpu"))
    except FormatError:  # which costs the registers, and not the memory
        return None


def _regions(columns: dict[bytes, dict[int, int]], count: int) -> Iterator[Region]:
    for number in range(count):
        try:
            pages = [
                columns[name][number] for name in (b"regionPPN", b"regionPageNum", b"regionSize")
            ]
        except KeyError as error:
            raise FormatError(f"region {number} of memory is not described") from error
        paddr, offset, size = (page * _PAGE for page in pages)
        if not size or paddr + size > MAX_ADDRESS:
            raise FormatError(f"region {number} of memory has {size} bytes at {paddr:#x}")
        yield Region(paddr, offset, size)
