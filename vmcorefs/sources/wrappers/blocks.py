"""Compressed blocks that need nothing of each other, and copies made of such for what has none.

A stream without places where it can be entered (one zstd frame, one block of xz, bzip2, lzma) is
decompressed once. What comes out is kept in blocks, compressed again and sealed: see ``records``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import accumulate

from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.dumps.page_codecs import load_library
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.cache import cached_index
from vmcorefs.sources.wrappers.decoder import Decoder
from vmcorefs.sources.wrappers.records import Index, IndexWriter, plain_index
from vmcorefs.sources.wrappers.seekable import Unwrapped

BLOCK = 256 << 10
"""Bytes in a block of a copy."""

_BY_ZLIB, _BY_ZSTD = 0, 1

Stream = Callable[[], Decoder]
"""Begins at the start of what is wrapped."""

Reached = Callable[[], None]
"""Called at every block: tells how far the work is."""


class Blocks:
    """A decoder of blocks, from one of them on."""

    def __init__(self, decode: Callable[[int], bytes], row: int, rows: int) -> None:
        """Begin.

        Args:
            decode: From the row of a block in the index to what is in it.
            row: The first block.
            rows: How many there are in all.
        """
        self._decode, self._row, self._rows = decode, row, rows
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        """See ``Decoder.readinto``."""
        done = 0
        while done < len(buffer):
            if not len(self._left):
                if self._row >= self._rows:
                    break
                self._left = memoryview(self._decode(self._row))
                self._row += 1
            part = self._left[: len(buffer) - done]
            buffer[done : done + len(part)] = part
            self._left = self._left[len(part) :]
            done += len(part)
        return done


class Parts:
    """A decoder of parts that are decompressed from the start of each, from one of them on."""

    def __init__(self, begin: Callable[[int], Decoder], sizes: Sequence[int], row: int) -> None:
        """Begin.

        Args:
            begin: From the number of a part to its decoder.
            sizes: What each part is said to have.
            row: The first part.
        """
        self._begin, self._sizes, self._row = begin, sizes, row
        self._decoder, self._left = begin(row), sizes[row]

    def readinto(self, buffer: memoryview) -> int:
        """See ``Decoder.readinto``."""
        if not self._left:
            if self._row + 1 == len(self._sizes):
                return 0
            self._row += 1
            self._decoder, self._left = self._begin(self._row), self._sizes[self._row]
        count = self._decoder.readinto(buffer[: self._left])
        if not count:
            raise ValueError(f"a part of it lacks {self._left} bytes of {self._sizes[self._row]}")
        self._left -= count
        return count


def open_parts(
    file: File,
    kind: str,
    rows: Sequence[tuple[int, int]],
    sizes: Sequence[int],
    begin: Callable[[int], Decoder],
) -> Unwrapped:
    """Read a file of parts of known sizes.

    Args:
        file: The compressed file.
        kind: What it is called.
        rows: The offset of each, and a number for the codec.
        sizes: Bytes in what is in each; none is 0.
        begin: As for ``Parts``.
    """
    starts = list(accumulate(sizes, initial=0))
    table = [(start, *row) for start, row in zip(starts, rows, strict=False)]
    index = plain_index(table, starts[-1])
    return Unwrapped(file, kind, index, lambda row: Parts(begin, sizes, row))


def open_blocks(
    file: File, kind: str, index: Index, decode: Callable[[Index, int], bytes]
) -> Unwrapped:
    """Read a file of blocks, each of which is a row of its index."""
    rows = len(index.starts)
    return Unwrapped(
        file, kind, index, lambda row: Blocks(lambda number: decode(index, number), row, rows)
    )


def open_copied(file: File, kind: str, begin: Stream, reached: Reached, damage: str) -> Unwrapped:
    """Open a stream that can only be read from its start, by a sealed copy of what is in it.

    Args:
        file: The compressed file.
        kind: What it is called.
        begin: Begins to decompress it.
        reached: As above.
        damage: Why it is known to end too soon; else empty.

    Raises:
        SourceIOError: if it cannot be read.
        OutputError: if there is no room for the copy.
    """
    index = cached_index(file, f"{kind} copied/1", lambda new: _copy(begin(), new, reached, damage))
    return open_blocks(file, kind, index, _stored)


def _copy(decoder: Decoder, new: IndexWriter, reached: Reached, damage: str) -> Index:
    codec, compress = _compressor()
    buffer = memoryview(bytearray(BLOCK))
    done, count = 0, BLOCK
    while count == BLOCK:
        count, error = _fill(decoder, buffer)
        damage = error or damage
        if count:
            data = bytes(buffer[:count])
            new.add(done, count, codec, b"" if not any(data) else compress(data))
            done += count
        reached()
    return new.finish(done, damage)


def _fill(decoder: Decoder, buffer: memoryview) -> tuple[int, str]:
    """How many bytes came, and why not all did if they are damaged."""
    done, count = 0, 1
    try:
        while count and done < len(buffer):
            count = decoder.readinto(buffer[done:])
            done += count
    except ValueError as error:
        return done, str(error)
    return done, ""


def _stored(index: Index, row: int) -> bytes:
    record, size = index.record(row), int(index.at[row])
    if not record:
        return bytes(size)
    if int(index.bits[row]) == _BY_ZLIB:
        return zlib.decompress(record)
    try:
        zstandard = load_library("zstandard", "zstandard")
    except UnsupportedError as error:
        raise ValueError(str(error)) from error
    data: bytes = zstandard.ZstdDecompressor().decompress(record, max_output_size=size)
    return data


def _compressor() -> tuple[int, Callable[[bytes], bytes]]:
    """What makes the copy small: zstd if it is installed."""
    try:
        zstandard = load_library("zstandard", "zstandard")
    except UnsupportedError:
        return _BY_ZLIB, lambda data: zlib.compress(data, 1)
    return _BY_ZSTD, zstandard.ZstdCompressor(level=1).compress
