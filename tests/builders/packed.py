"""Compressed files, made by each format's own library."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache

import cramjam
import lzo
import zstandard

from tests.builders.dead_machines import stamped

DATA = (
    stamped(0, 0x60000)
    + random.Random(7).randbytes(0x30000)  # noqa: S311
    + bytes(0x50000)
    + stamped(0xE0000, 0x110003)
)
"""What is easy to compress, what is not, and zeros; its size is odd."""

PART = 100_000


def parts(pack: Callable[[bytes], bytes], size: int = PART) -> Callable[[bytes], bytes]:
    """Packs parts of the data one by one."""
    return lambda data: b"".join(pack(data[at : at + size]) for at in range(0, len(data), size))


def gzip_member(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def bgzf(data: bytes) -> bytes:
    """As bgzip writes it (SAM specification, 4.1): members that say their own size."""
    members = []
    for at in [*range(0, len(data), 0xFF00), None]:
        piece = b"" if at is None else data[at : at + 0xFF00]
        raw = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = raw.compress(piece) + raw.flush()
        head = struct.pack("<4BI2BH2BHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(packed) + 25)
        members.append(head + packed + struct.pack("<II", zlib.crc32(piece), len(piece)))
    return b"".join(members)


def zstd_frame(data: bytes, *, says_size: bool = True) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=says_size, write_checksum=True)
    return compressor.compress(data)


def seekable_zstd(data: bytes) -> bytes:
    """Frames that do not say their sizes, and a seek table (contrib/seekable_format of zstd)."""
    pieces = [data[at : at + PART] for at in range(0, len(data), PART)]
    frames = [zstd_frame(piece, says_size=False) for piece in pieces]
    rows = [struct.pack("<II", len(f), len(p)) for f, p in zip(frames, pieces, strict=True)]
    table = b"".join(rows) + struct.pack("<IBI", len(rows), 0, 0x8F92EAB1)
    return b"".join(frames) + struct.pack("<II", 0x184D2A5E, len(table)) + table


def padded_xz(data: bytes) -> bytes:
    """Streams with stream padding between them and behind."""
    half = len(data) // 2
    return lzma.compress(data[:half], preset=0) + bytes(8) + lzma.compress(data[half:]) + bytes(4)


def lz4_frame(data: bytes) -> bytes:
    """As ``lz4 -B4`` writes it: independent blocks of 64 KiB; one of them is stored as it is."""
    blocks = []
    for at in range(0, len(data), 1 << 16):
        piece = data[at : at + (1 << 16)]
        packed = bytes(cramjam.lz4.compress_block(piece, store_size=False))
        is_stored = len(packed) >= len(piece)
        length = len(piece) | 1 << 31 if is_stored else len(packed)
        blocks.append(struct.pack("<I", length) + (piece if is_stored else packed))
    return struct.pack("<I3B", 0x184D2204, 0x60, 0x40, 0x82) + b"".join(blocks) + bytes(4)


def old_lz4(data: bytes) -> bytes:
    """As ``lz4 -l`` writes it: blocks of 8 MiB."""
    packed = bytes(cramjam.lz4.compress_block(data, store_size=False))
    return struct.pack("<II", 0x184C2102, len(packed)) + packed


def lzop_file(data: bytes) -> bytes:
    """As lzop writes it: Adler-32 of both, blocks of 256 KiB, what does not shrink as it is."""
    head = struct.pack(">HHHBBIIII", 0x1040, 0x20A0, 0x0940, 3, 5, 0x3, 0o644, 0, 0) + b"\x01x"
    blocks = []
    for at in range(0, len(data), 1 << 18):
        piece = data[at : at + (1 << 18)]
        packed = lzo.compress(piece, 1, False)  # no header
        packed = packed if len(packed) < len(piece) else piece
        sums = [zlib.adler32(piece)] + ([zlib.adler32(packed)] if packed is not piece else [])
        blocks.append(struct.pack(f">II{len(sums)}I", len(piece), len(packed), *sums) + packed)
    return b"\x89LZO\0\r\n\x1a\n" + head + bytes(4) + b"".join(blocks) + bytes(4)


FORMS: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip_member),
    "gzip members": ("gzip", lambda data: parts(gzip_member)(data) + bytes(512)),
    "bgzf": ("gzip", bgzf),
    "zlib": ("zlib", lambda data: zlib.compress(data, 6)),
    "bzip2": ("bzip2", parts(bz2.compress)),
    "xz": ("xz", lambda data: lzma.compress(data, preset=0)),
    "xz streams": ("xz", padded_xz),
    "lzma": ("lzma", lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0)),
    "lz4": ("lz4", lz4_frame),
    "old lz4": ("lz4", old_lz4),
    "lzop": ("lzop", lzop_file),
    "zstd": ("zstd", zstd_frame),
    "zstd stream": ("zstd", lambda data: zstd_frame(data, says_size=False)),
    "zstd frames": ("zstd", parts(zstd_frame)),
    "zstd seekable": ("zstd", seekable_zstd),
}
"""What each is called, and what makes it."""


@cache
def packed_data(form: str) -> bytes:
    """``DATA`` in one of the forms."""
    return FORMS[form][1](DATA)
