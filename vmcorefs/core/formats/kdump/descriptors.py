"""Which pages a kdump-compressed file has: its bitmaps, and a descriptor for each stored page.

After the headers come a bitmap of the pages that are RAM, a bitmap of the pages that are stored, a
descriptor for each stored page in order of page frame number, and the pages, each compressed alone.
"""

from __future__ import annotations

import enum

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.formats.kdump.headers import MainHeader

DESC_SIZE = 24
"""Bytes in a page descriptor."""

BitArray = npt.NDArray[np.bool_]
DescArray = npt.NDArray[np.void]
"""Shape ``(n,)``, dtype ``desc_dtype(...)``: a page descriptor for each stored page."""


class Flag(enum.IntFlag):
    """Bits of ``status`` in the main header, and of ``flags`` in a page descriptor.

    A descriptor says how its page is compressed; the header says how pages may be compressed, and
    whether the dump is incomplete. If it is, a page whose descriptor has offset 0 was lost
    (makedumpfile.8, "incomplete"; crash: diskdump.c, ``cache_page``).
    """

    ZLIB = 0x1
    LZO = 0x2
    SNAPPY = 0x4
    INCOMPLETE = 0x8
    EXCLUDED_VMEMMAP = 0x10
    ZSTD = 0x20


COMPRESSED = Flag.ZLIB | Flag.LZO | Flag.SNAPPY | Flag.ZSTD


class Places(msgspec.Struct, frozen=True):
    """Where the parts of a file begin, in bytes.

    Attributes:
        ram: The bitmap of the pages that are RAM.
        stored: The bitmap of the pages that have a descriptor; the same as ``ram`` in a file with
            only one bitmap, such as an old diskdump.
        bitmap_size: Bytes in each bitmap.
        descriptors: The page descriptors.
    """

    ram: int
    stored: int
    bitmap_size: int
    descriptors: int


def desc_dtype(byte_order: ByteOrder) -> np.dtype[np.void]:
    """``struct page_desc``: the same 24 bytes on every machine, except for byte order.

    ``offset`` is where the page's data begins in the file, ``size`` its size there, ``flags`` a
    ``Flag``; ``page_flags`` has always been 0.
    """
    members = (("offset", "i8"), ("size", "u4"), ("flags", "u4"), ("page_flags", "u8"))
    return np.dtype([(name, byte_order + kind) for name, kind in members])


def places(main: MainHeader, max_mapnr: int) -> Places:
    """Where the parts of a file are.

    Args:
        main: Its main header.
        max_mapnr: One more than its highest page frame number.
    """
    ram = (1 + main.sub_hdr_size) * main.block_size
    size = main.bitmap_blocks * main.block_size
    # crash (dump_is_partial) and libkdumpfile recognise a second one like this
    two = max_mapnr <= (size // 2) * 8
    half = main.bitmap_blocks // 2 * main.block_size if two else size
    return Places(ram, ram + half if two else ram, half, ram + size)


def bitmap_blocks(max_mapnr: int, block_size: int) -> int:
    """Blocks of both bitmaps together, for a file of ``max_mapnr`` pages."""
    return 2 * -(-max_mapnr // (8 * block_size))


def unpack_bits(bitmap: bytes) -> BitArray:
    """The bits of a part of a bitmap, in order of page frame number."""
    bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little")
    return bits.view(np.bool_)


def pack_bits(bits: BitArray) -> bytes:
    """The bytes of a part of a bitmap; the inverse of ``unpack_bits``."""
    return np.packbits(bits, bitorder="little").tobytes()
