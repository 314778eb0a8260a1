"""Compressing a batch of pages: in machine code where it was built, or else page by page."""

from __future__ import annotations

import struct
from itertools import chain

import msgspec
import numpy as np

from vmcorefs.core.pages.dump_level import BoolArray
from vmcorefs.native import pages as native
from vmcorefs.output.losses import Loss
from vmcorefs.save.codecs import Codec, Compress
from vmcorefs.save.pages import Batch, PageArray, PageReader, Pages, find_runs

Pieces = list[bytes] | list[memoryview]


class PackedPages(msgspec.Struct, frozen=True):
    """The pages of a batch, compressed.

    Attributes:
        pieces: Those that are stored, one behind the other, in pieces.
        sizes: Bytes of each page in ``pieces``, shape ``(n,)``; 0 of one that is zero or lost.
        zero: Which are nothing but zeros, shape ``(n,)``.
        lost: Which could not be read, shape ``(n,)``.
        losses: The lost ones; neighbours are one.
        memory: What ``pieces`` lie in, if it can be used again.
    """

    pieces: Pieces
    sizes: native.UInt32Array
    zero: BoolArray
    lost: BoolArray
    losses: tuple[Loss, ...]
    memory: Pages | native.UInt8Array | None


class Packer:
    """Reads and compresses batches of pages; from any number of threads."""

    def __init__(self, reader: PageReader, codec: Codec) -> None:
        self._reader = reader
        self._codec = codec
        self._is_native = native.is_built() and codec.start is None
        self._buffers: list[native.UInt8Array] = []  # see PageReader.give_back

    def pack(self, batch: Batch) -> PackedPages:
        """Read a batch and compress it; whoever has written it calls ``give_back``."""
        packed = self._pack_file(batch) if self._is_native else None
        return self._pack_read(self._reader.read(batch)) if packed is None else packed

    def give_back(self, packed: PackedPages) -> None:
        """Reuse the memory of what ``pack`` gave, which is no longer needed."""
        if isinstance(packed.memory, Pages):
            self._reader.give_back(packed.memory)
        elif packed.memory is not None:
            self._buffers.append(packed.memory)

    def _pack_file(self, batch: Batch) -> PackedPages | None:
        """See ``pack``; None where it takes more than to read a file, or that fails."""
        runs, count, page_size = batch.runs, len(batch.pfns), self._reader.page_size
        place = self._reader.places_in_file(runs)
        if place is None:
            return None
        descriptor, offsets = place
        out, flag = self._take_buffer(count), int(self._codec.flag)
        counts = runs[:, 1] - runs[:, 0]
        done = native.read_and_pack(flag, descriptor, offsets, counts, page_size, out)
        if done is None:
            self._buffers.append(out)
            return None
        size, sizes = done
        none = np.zeros(count, dtype=np.bool_)
        return PackedPages([out[:size].data], sizes, sizes == 0, none, (), out)

    def _pack_read(self, pages: Pages) -> PackedPages:
        """See ``pack``."""
        memory: Pages | native.UInt8Array | None = None
        if self._codec.start is not None:
            pieces, sizes = pack_by(self._codec.start(), pages)
        elif not self._codec.flag:
            pieces, sizes = _leave(pages)
            memory = pages
        else:
            memory = self._take_buffer(len(pages.data))
            flag = int(self._codec.flag)
            size, sizes = native.pack(flag, pages.data, pages.stored, memory)
            pieces = [memory[:size].data]
        if memory is not pages:
            self._reader.give_back(pages)
        return PackedPages(pieces, sizes, pages.zero, pages.lost, pages.losses, memory)

    def _take_buffer(self, count: int) -> native.UInt8Array:
        needed = native.packed_size(count, self._reader.page_size)
        try:
            whole = self._buffers.pop()
        except IndexError:
            whole = np.empty(0, dtype=np.uint8)
        return whole if len(whole) >= needed else np.empty(needed, dtype=np.uint8)


def packed_sizes(codec: Codec, data: PageArray) -> native.UInt32Array:
    """Bytes that pages would take in a dump, shape ``(n,)``; all of ``data`` are stored."""
    if not codec.flag:
        return np.full(len(data), data.shape[1], dtype=np.uint32)
    stored, lost = np.ones(len(data), dtype=np.bool_), np.zeros(len(data), dtype=np.bool_)
    if codec.start is not None:
        return pack_by(codec.start(), Pages(data, lost, lost, ()))[1]
    out = np.empty(native.packed_size(*data.shape), dtype=np.uint8)
    return native.pack(int(codec.flag), data, stored, out)[1]


def pack_by(compress: Compress, pages: Pages) -> tuple[Pieces, native.UInt32Array]:
    """Compress the stored pages one by one; their ``pieces`` and ``sizes``."""
    count, size = pages.data.shape
    sizes = np.zeros(count, dtype=np.uint32)
    stored = np.flatnonzero(pages.stored)
    runs = [pages.data[first:end].reshape(-1).data for first, end in find_runs(stored)]
    # a page at a time, by iterators of C: it lies in the CPU's cache when it is compressed
    rows = chain.from_iterable(map(struct.Struct(f"{size}s").iter_unpack, runs))
    packed = list(compress(chain.from_iterable(rows)))
    lengths = np.fromiter(map(len, packed), dtype=np.uint32, count=len(packed))
    for row in np.flatnonzero(lengths >= size).tolist():
        packed[row] = pages.data[stored[row]].tobytes()
    sizes[stored] = np.minimum(lengths, size)
    return [b"".join(packed)], sizes


def _leave(pages: Pages) -> tuple[Pieces, native.UInt32Array]:
    """The stored pages as they are, where they lie; their ``pieces`` and ``sizes``."""
    count, size = pages.data.shape
    sizes = np.zeros(count, dtype=np.uint32)
    stored = np.flatnonzero(pages.stored)
    sizes[stored] = size
    return [pages.data[first:end].reshape(-1).data for first, end in find_runs(stored)], sizes
