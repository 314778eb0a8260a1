"""lz4 and lzop files: blocks that need nothing of each other."""

from __future__ import annotations

import zlib
from typing import Any

from vmcorefs.core.formats.compressed.lz4_blocks import iter_lz4_blocks
from vmcorefs.core.formats.compressed.lzop_blocks import iter_lzop_blocks
from vmcorefs.errors import UnsupportedError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.dumps.page_codecs import load_library
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.blocks import open_blocks
from vmcorefs.sources.wrappers.cache import cached_index
from vmcorefs.sources.wrappers.records import Index, IndexWriter
from vmcorefs.sources.wrappers.seekable import Unwrapped
from vmcorefs.system.progress import Progress

_STORED = 1


def open_lz4(file: File, progress: Progress) -> Unwrapped:
    """Open an lz4 file: its index says how much is in each block, which only decompressing tells.

    Raises:
        UnsupportedError: if the package cramjam is not installed, or blocks need one another.
        SourceIOError: if it cannot be read.
    """
    cramjam = _library(file, "lz4", "cramjam")
    read = read_at(file)

    def decompress(data: bytes, most: int) -> bytes:
        buffer = bytearray(most)
        try:
            return bytes(buffer[: cramjam.lz4.decompress_block_into(data, buffer)])
        except cramjam.DecompressionError as error:
            raise ValueError(str(error)) from error

    def build(new: IndexWriter) -> Index:
        done, damage = 0, ""
        try:
            for block in iter_lz4_blocks(read, file.size):
                data = read(block.at, block.length)
                size = block.length if block.is_stored else len(decompress(data, block.most))
                new.add(done, block.at, block.length << 1 | block.is_stored)
                done += size
                progress(block.at, file.size)
        except ValueError as error:
            damage = str(error)
        return new.finish(done, damage)

    def decode(index: Index, row: int) -> bytes:
        at, bits = int(index.at[row]), int(index.bits[row])
        data, size = read(at, bits >> 1), _size_of(index, row)
        return _checked(data if bits & _STORED else decompress(data, size), size)

    try:
        index = cached_index(file, "lz4/1", build)
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: {error}") from error
    return open_blocks(file, "lz4", index, decode)


def open_lzop(file: File, progress: Progress) -> Unwrapped:
    """Open an lzop file; the errors are those of ``open_lz4``, with the package python-lzo."""
    lzo = _library(file, "lzop", "lzo", "python-lzo")
    read = read_at(file)
    no_header = False

    def build(new: IndexWriter) -> Index:
        done, damage = 0, ""
        try:
            for block in iter_lzop_blocks(read, file.size):
                adler = -1 if block.adler is None else block.adler
                new.add(done, block.at, block.length, adler.to_bytes(8, "little", signed=True))
                done += block.size
                progress(block.at, file.size)
        except ValueError as error:
            damage = str(error)
        return new.finish(done, damage)

    def decode(index: Index, row: int) -> bytes:
        size = _size_of(index, row)
        data = read(int(index.at[row]), int(index.bits[row]))
        adler = int.from_bytes(index.record(row), "little", signed=True)
        try:
            found = data if len(data) == size else bytes(lzo.decompress(data, no_header, size))
        except lzo.error as error:
            raise ValueError(str(error)) from error
        if adler not in {-1, zlib.adler32(found)}:
            raise ValueError("a block's sum is wrong")
        return _checked(found, size)

    return open_blocks(file, "lzop", cached_index(file, "lzop/1", build), decode)


def _size_of(index: Index, row: int) -> int:
    end = index.starts[row + 1] if row + 1 < len(index.starts) else index.size
    return int(end - index.starts[row])


def _checked(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ValueError(f"a block of {len(data)} bytes, expected {size}")
    return data


def _library(file: File, codec: str, *names: str) -> Any:  # noqa: ANN401  # compiled modules
    try:
        return load_library(names[0], names[-1])
    except UnsupportedError as error:
        raise UnsupportedError(f"{file.name}: compressed by {codec}, and {error}") from error
