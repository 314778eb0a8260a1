"""The RAM in a stream: blocks, and the pages of each (QEMU's migration/ram.c).

Each record begins with a number of 64 bits: an address in its block, and flags in the low bits.
Pages mostly follow each other in order, so a run of them is found at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from vmcorefs.core.formats.qemu.stream import Cursor, CutError
from vmcorefs.core.space.ranges import Int64Array
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError, UnsupportedError

_ZERO, _MEM_SIZE, _PAGE, _EOS, _CONTINUE, _FLUSH = 0x02, 0x04, 0x08, 0x10, 0x20, 0x200
_REFUSED: Final = {
    0x40: "packed by XBZRLE, as differences from what they were before",
    0x80: "sent by RDMA, outside of the stream",
    0x100: "compressed one by one (the capability compress)",
}
MAX_RUNS: Final = 1 << 22
"""Most runs of pages accepted."""

_MOST_BLOCKS: Final = 1 << 12
_FEW, _MANY = 32, 1 << 16  # records that are looked at at once


class Block(msgspec.Struct, frozen=True):
    """A block of memory of the virtual machine.

    Attributes:
        name: QEMU's, such as ``pc.ram``.
        size: Bytes in it.
        base: Where it begins in the address space of all blocks, one behind the other.
    """

    name: str
    size: int
    base: int


def read_blocks(
    cursor: Cursor, page_size: int, extra: Callable[[Cursor, Block], None]
) -> list[Block]:
    """Read the list of blocks, with which the first section begins.

    Args:
        cursor: Behind the section's start.
        page_size: Bytes in a page.
        extra: Called behind each block, to read what the stream has there.

    Raises:
        CutError: if the file ends there.
        FormatError: if it cannot be true.
    """
    head = cursor.number(8)
    left, flags = head & -page_size, head & (page_size - 1)
    if flags != _MEM_SIZE or left > MAX_ADDRESS:
        raise FormatError(f"RAM does not begin with its size, but with {head:#x}")
    blocks: list[Block] = []
    base = 0
    while left:
        name, size = cursor.text(), cursor.number(8)
        if not 0 < size <= left or size % page_size or len(blocks) == _MOST_BLOCKS:
            raise FormatError(f"a block {name!r} of {size} bytes, where {left} are left")
        blocks.append(Block(name, size, base))
        extra(cursor, blocks[-1])
        left -= size
        base += size
    return blocks


class Pages:
    """The pages of a stream, in runs.

    Attributes:
        blocks: The blocks, by name.
    """

    def __init__(self, blocks: list[Block], page_size: int) -> None:
        self.blocks = {block.name: block for block in blocks}
        self._page_size = page_size
        self._rows = array("q")
        self._block: Block | None = None

    @property
    def table(self) -> Int64Array:
        """The runs in the order of the file, shape ``(n, 4)``, int64.

        The columns: where it begins in the address space of all blocks, in bytes; pages in it;
        where the bytes of the first are in the file, or -1 if all are zeros; from one page to the
        next in the file, or 0 if each consists of the one byte there.
        """
        return np.frombuffer(self._rows, dtype=np.int64).reshape(-1, 4)

    def read_records(self, cursor: Cursor) -> None:
        """Read records up to the end of the section.

        Raises:
            CutError: if the file ends there; what precedes that has been read.
            FormatError: if a record cannot be true.
            UnsupportedError: if pages are packed in a way that is not read here.
        """
        size = self._page_size
        while True:
            where = cursor.at
            try:
                head = cursor.number(8)
                flags, address = head & (size - 1), head & -size
                if flags == _EOS:
                    return
                if flags == _FLUSH:
                    continue
                self._check(flags, where)
                block = self._of(cursor, flags)
                if address + size > block.size:
                    raise FormatError(f"a page at {address:#x} of {block.name!r}, at {where:#x}")
                count = self._take(cursor, block, address, flags)
                cursor.at += count
            except CutError:
                cursor.at = where
                raise

    def _check(self, flags: int, where: int) -> None:
        for flag, how in _REFUSED.items():
            if flags & flag:
                raise UnsupportedError(f"pages {how}, from {where:#x} on")
        if flags & ~_CONTINUE not in (_PAGE, _ZERO):
            raise FormatError(f"a record with the flags {flags:#x} at {where:#x}")

    def _of(self, cursor: Cursor, flags: int) -> Block:
        if not flags & _CONTINUE:
            name = cursor.text()
            self._block = self.blocks.get(name)
            if self._block is None:
                raise FormatError(f"a page of {name!r}, which is no block, before {cursor.at:#x}")
        if self._block is None:
            raise FormatError(f"a page of no block before {cursor.at:#x}")
        return self._block

    def _take(self, cursor: Cursor, block: Block, address: int, flags: int) -> int:
        """Take a page, and those that follow it in the same form; return their bytes."""
        size = self._page_size
        stored = size if flags & _PAGE else 1
        at, to = cursor.at, block.base + address
        if at + stored > cursor.window.size:
            raise CutError
        most = (block.size - address) // size - 1
        if flags & _PAGE:
            more = _same(cursor, at + size, size, address, _PAGE | _CONTINUE, most)
            self._add(to, 1 + more, at, 8 + size)
            return size + more * (8 + size)
        if cursor.window.take(at, 1) != b"\0":
            self._add(to, 1, at, 0)
            return 1
        more = _same(cursor, at + 1, size, address, _ZERO | _CONTINUE, most)
        self._add(to, 1 + more, -1, 0)
        return 1 + more * 9

    def _add(self, to: int, count: int, at: int, pitch: int) -> None:
        if len(self._rows) == 4 * MAX_RUNS:
            raise FormatError(f"more than {MAX_RUNS} runs of pages")
        self._rows.extend((to, count, at, pitch))


def _same(cursor: Cursor, at: int, size: int, address: int, flags: int, most: int) -> int:
    """How many records at ``at`` go on with the pages behind ``address`` in the same form."""
    stored = size if flags & _PAGE else 1
    pitch, found, some = 8 + stored, 0, _FEW
    while found < most:
        data = cursor.window.peek(at + found * pitch, pitch)
        count = min(len(data) // pitch, some, most - found)
        if not count:
            break
        records = np.frombuffer(data, dtype=np.uint8, count=count * pitch).reshape(count, pitch)
        heads = np.ascontiguousarray(records[:, :8]).view(">u8")[:, 0]
        first = address + (found + 1) * size
        expected = np.arange(first, first + count * size, size, dtype=np.uint64) | np.uint64(flags)
        fits = heads == expected
        if stored == 1:
            fits &= records[:, 8] == 0
        if not fits.all():
            return found + int(np.argmin(fits))
        found += count
        some = _MANY
    return found
