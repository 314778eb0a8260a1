"""RAM as the capability ``mapped-ram`` has it since QEMU 9.0: each page at a place of its own.

Behind a block's name and size are a header, which says where the block's pages begin and where a
bitmap is of those that are in the file, and then room for both (migration/ram.c and
docs/devel/migration/mapped-ram.rst). The bitmap is written last, in the host's words: those of a
big-endian host are not read here.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
import numpy as np

from vmcorefs.core.formats.qemu.ram import MAX_RUNS, Block
from vmcorefs.core.formats.qemu.stream import Cursor
from vmcorefs.core.formats.window import Window
from vmcorefs.core.space.ranges import Ranges, normalise, true_runs
from vmcorefs.errors import FormatError

CAPABILITY: Final = "mapped-ram"

_HEADER: Final = struct.Struct(">I3Q")
_VERSION: Final = 1
_CHUNK: Final = 1 << 18  # bytes of a bitmap read at a time: those of 8 GiB
_WORD: Final = 8


class MappedBlock(msgspec.Struct, frozen=True):
    """A block whose pages have their own places.

    Attributes:
        block: The block.
        bitmap: Where its bitmap is in the file.
        pages: Where its first page is.
    """

    block: Block
    bitmap: int
    pages: int


def read_mapped(cursor: Cursor, block: Block, page_size: int) -> MappedBlock | None:
    """Read the header behind a block, and pass over its pages; None if they are in no file.

    Raises:
        CutError: if the file ends there.
        FormatError: if it cannot be true.
    """
    where = cursor.at
    version, size, bitmap, pages = _HEADER.unpack(cursor.take(_HEADER.size))
    if not bitmap and not pages:  # memory that is shared, and so was not written
        return None
    room = -(-block.size // page_size // 8 // _WORD) * _WORD
    if (version, size) != (_VERSION, page_size) or not cursor.at <= bitmap <= pages - room:
        raise FormatError(f"the header of {block.name!r} at {where:#x} cannot be true")
    if pages + block.size >= 1 << 62:
        raise FormatError(f"the pages of {block.name!r} are at {pages:#x}")
    cursor.at = pages + block.size
    return MappedBlock(block, bitmap, pages)


def stored_pages(window: Window, mapped: MappedBlock, page_size: int) -> Ranges:
    """The pages of a block that are in the file by its bitmap, as numbers: a normal set.

    Raises:
        FormatError: if there are too many runs of them.
    """
    count = mapped.block.size // page_size
    end = min(mapped.bitmap + -(-count // 8), window.size)
    found = [np.empty((0, 2), dtype=np.int64)]
    runs = 0
    for at in range(mapped.bitmap, end, _CHUNK):
        raw = np.frombuffer(window.take(at, min(_CHUNK, end - at)), dtype=np.uint8)
        bits = np.unpackbits(raw, bitorder="little").view(np.bool_)
        found.append(true_runs(bits) + (at - mapped.bitmap) * 8)
        runs += len(found[-1])
        if runs > MAX_RUNS:
            raise FormatError(f"more than {MAX_RUNS} runs of pages in {mapped.block.name!r}")
    return normalise(np.concatenate(found).clip(0, count))
