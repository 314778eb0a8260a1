"""xz files: by the index that each has of its blocks, which ``xz -T`` and pixz make."""

from __future__ import annotations

import lzma
from bz2 import BZ2Decompressor
from collections.abc import Callable

from vmcorefs.core.formats.compressed.xz_index import (
    HEADER_SIZE as XZ_HEADER_SIZE,
    XzBlock,
    read_xz_blocks,
)
from vmcorefs.sources.base import read_at
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.blocks import open_copied, open_parts
from vmcorefs.sources.wrappers.decoder import Feed
from vmcorefs.sources.wrappers.seekable import Unwrapped
from vmcorefs.system.progress import Progress

MEMORY = 512 << 20
"""Bytes that a decompressor may take: a header may ask for 1.5 GiB (xz -9 takes 65 MiB)."""

LONGEST = 64 << 20
"""Bytes of what is in the longest block that is decompressed from its start at every jump."""


def open_xz(file: File, progress: Progress) -> Unwrapped:
    """Open an xz file; the errors are those of ``open_copied``."""
    blocks = read_xz_blocks(read_at(file), file.size)
    if blocks is None or max((block.size for block in blocks), default=0) > LONGEST:
        return open_stream(file, "xz", _xz, progress)

    sizes = [block.size for block in blocks]
    rows = [(block.at, block.stream) for block in blocks]
    return open_parts(file, "xz", rows, sizes, lambda row: _Block(file, blocks[row]))


def open_stream(
    file: File, kind: str, make: Callable[[], _Decompressor], progress: Progress
) -> Unwrapped:
    """Open streams of a kind one after another, by a copy; the errors are those of that."""
    feed = Feed(file, 0)
    decoder = _Streams(feed, make)
    return open_copied(file, kind, lambda: decoder, lambda: progress(feed.at, file.size), "")


_Decompressor = lzma.LZMADecompressor | BZ2Decompressor


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY)


def open_lzma(file: File, progress: Progress) -> Unwrapped:
    """Open a .lzma file; the errors are those of ``open_copied``."""

    def make() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=MEMORY)

    return open_stream(file, "lzma", make, progress)


def open_bzip2(file: File, progress: Progress) -> Unwrapped:
    """Open a bzip2 file; the errors are those of ``open_copied``."""
    return open_stream(file, "bzip2", BZ2Decompressor, progress)


class _Streams:
    """Streams one after another; what follows the last one, often zeros, is no longer its own."""

    def __init__(self, feed: Feed, make: Callable[[], _Decompressor]) -> None:
        self._feed, self._make = feed, make
        self._one = make()

    def readinto(self, buffer: memoryview) -> int:
        """See ``Decoder.readinto``."""
        made = b""
        while not made:
            if self._one.eof and not self._begin_next():
                break
            made = self._step(len(buffer))
        buffer[: len(made)] = made
        return len(made)

    def _step(self, most: int) -> bytes:
        data = bytes(self._feed.view()) if self._one.needs_input else b""
        if self._one.needs_input and not data:
            raise ValueError("it is cut off")
        try:
            made = self._one.decompress(data, most)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise ValueError(str(error)) from error
        self._feed.take(len(data))
        if self._one.eof:
            self._feed.back(len(self._one.unused_data))
        return made

    def _begin_next(self) -> bool:
        self._feed.skip_zeros()
        if not len(self._feed.view()):
            return False
        self._one = self._make()
        return True


class _Block:
    """A block of an xz stream, with the check that the stream has."""

    def __init__(self, file: File, block: XzBlock) -> None:
        self._feed = Feed(file, block.at, block.at + block.length)
        self._one = _xz()
        try:
            self._one.decompress(read_at(file)(block.stream, XZ_HEADER_SIZE))
        except lzma.LZMAError as error:
            raise ValueError(str(error)) from error

    def readinto(self, buffer: memoryview) -> int:
        """See ``Decoder.readinto``."""
        made, data = b"", b"\0"
        try:
            while not made and data:
                data = self._feed.read() if self._one.needs_input else b""
                made = self._one.decompress(data, len(buffer))
                data = data or made
        except lzma.LZMAError as error:
            raise ValueError(str(error)) from error
        buffer[: len(made)] = made
        return len(made)
