"""VMware's suspended virtual machines and snapshots (.vmss, .vmsn): where their memory is.

A header lists groups, and a group has tags: a number of 16 bits that says how long the name is, how
many indices follow, and how large the value is; a value may also be a block, with sizes of its own.
The group ``memory`` has the memory in a block, or says how the file .vmem beside it belongs
(crash's vmware_vmss.c; volatility3's layers/vmware.py). All is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError, UnsupportedError

PARTIAL: Final = 0xBED3BED3
MAGICS: Final = tuple(
    struct.pack("<I", number)
    for number in (0xBED2BED0, 0xBED2BED2, PARTIAL, 0xBAD1BAD1, 0xBAD2BAD2)
)
"""Those of 64 bits; 0xbed0bed0 is the format of before."""

_GROUP: Final = struct.Struct("<64sQQ")
_BLOCK, _COMPRESSED = 0x3F, 0x3E
_MOST_GROUPS: Final = 1 << 10
_MOST_TAGS: Final = 1 << 20
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
    """

    regions: tuple[Region, ...]
    at: int | None
    size: int
    is_partial: bool


class _Tag(msgspec.Struct, frozen=True):
    name: bytes
    indices: tuple[int, ...]
    value: int
    block: int | None = None


def read_state(window: Window) -> State:
    """Read the headers.

    Raises:
        FormatError: if they cannot be true.
        UnsupportedError: if the memory is compressed.
    """
    magic, _version, count = struct.unpack("<3I", window.take(0, 12).ljust(12, b"\0"))
    if count > _MOST_GROUPS:
        raise FormatError(f"{count} groups")
    columns: dict[bytes, dict[int, int]] = {
        b"regionPageNum": {},
        b"regionPPN": {},
        b"regionSize": {},
    }
    told, at, size = 0, None, 0
    for tag in _memory_tags(window, count):
        if tag.name == b"regionsCount":
            told = tag.value
        elif tag.name in columns and tag.indices:
            columns[tag.name][tag.indices[0]] = tag.value
        elif tag.name == b"Memory" and tag.block is not None:
            at, size = tag.block, tag.value
    if told > _MOST_REGIONS or any(told > len(column) for column in columns.values()):
        raise FormatError(f"{told} regions of memory, of which not all are described")
    regions = tuple(_regions(columns, told))
    return State(regions, at, size, magic == PARTIAL)


def _memory_tags(window: Window, count: int) -> Iterator[_Tag]:
    for number in range(count):
        raw = window.take(12 + number * _GROUP.size, _GROUP.size)
        if len(raw) < _GROUP.size:
            raise FormatError("it is cut within its list of groups")
        name, start, size = _GROUP.unpack(raw)
        if name.rstrip(b"\0") == b"memory":
            if start + size > 1 << 62:
                raise FormatError(f"the memory is described at {start:#x}")
            yield from _tags(window, start, start + size)


def _tags(window: Window, at: int, end: int) -> Iterator[_Tag]:
    for _ in range(_MOST_TAGS):
        head = int.from_bytes(window.take(at, 2), "little")
        if not head or at >= end:
            return
        at += 2
        size, indices, length = head & 0x3F, head >> 6 & 3, head >> 8
        name = window.take(at, length)
        at += length
        numbers = window.take(at, 4 * indices)
        if len(numbers) < 4 * indices:
            raise FormatError("it is cut within the description of its memory")
        at += 4 * indices
        block = None
        if size in (_BLOCK, _COMPRESSED):
            stored, value, padding = struct.unpack("<QQH", window.take(at, 18).ljust(18, b"\0"))
            block = at + 18 + padding
            if max(stored, value, block) > 1 << 62:
                raise FormatError(f"a block of {stored} bytes at {block:#x}")
            if size == _COMPRESSED and name == b"Memory":
                raise UnsupportedError("its memory is compressed in a way that is not read here")
            at = block + stored
        else:
            value = int.from_bytes(window.take(at, size)[:8], "little")
            at += size
        yield _Tag(name, struct.unpack(f"<{indices}I", numbers), value, block)
    raise FormatError(f"more than {_MOST_TAGS} tags")


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
