"""An EROFS image with one file in it, whose chunks are on other devices.

This is all that a kernel needs to assemble a vmcore: a table with 8 bytes per chunk says on which
device and at which page its bytes are. The format is fs/erofs/erofs_fs.h: a superblock, a slot for
each device, a root directory, and one inode of layout "chunk based". Chunks that no device has in
one piece (they cross from one extent to another, or are made by vmcorefs) are copied after the
table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.space.extents import Kind
from vmcorefs.core.space.ranges import Int64Array, distinct
from vmcorefs.core.space.units import align_up
from vmcorefs.fuse.planes.pages import PAGE, Pages

FILE_NAME = "file"

MAX_DEVICE_SIZE = 1 << 44
"""A chunk's page number has 32 bits."""
MAX_DEVICES = 32

_MAGIC, _CHUNKED, _DEVICE_TABLE = 0xE0F5E1E2, 0x4, 0x8
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23s")
_SUPERBLOCK_AT = 1024
_DEVICE = struct.Struct("<64sII56s")
_INODE = struct.Struct("<HHHHQIIIIQIIQQ")
_PLAIN, _INLINE, _CHUNKS = 0, 2, 4
_ENTRY = struct.Struct("<QHBB")
_DIRECTORY, _REGULAR = 2, 1
_WITH_DEVICES = 0x20
_NODE_SIZE = 32
_DEVICES_AT = _SUPERBLOCK_AT + _SUPERBLOCK.size
_ROOT_AT = PAGE + MAX_DEVICES * _DEVICE.size
_FILE_AT = align_up(_ROOT_AT + 256, PAGE)
_TABLE_AT = _FILE_AT + _INODE.size
_HOLE = 0xFFFFFFFF
_ROWS_AT_ONCE = 1 << 14

CHUNK_DTYPE = np.dtype([("high", "<u2"), ("device", "<u2"), ("page", "<u4")])
"""One chunk: its device and first page; page 2**32 - 1 is a hole, device 0 is the image itself."""


class ChunkPlan(msgspec.Struct, frozen=True):
    """How a file is cut into chunks.

    Attributes:
        bits: A chunk has ``4096 << bits`` bytes.
        copied: Numbers of the chunks that are copied, sorted, shape ``(n,)``, int64.
        cost: Bytes of metadata: the table, and the copied chunks.
    """

    bits: int
    copied: Int64Array
    cost: int

    @property
    def size(self) -> int:
        """Bytes in a chunk."""
        return PAGE << self.bits


def plan_chunks(pages: Pages) -> ChunkPlan:
    """Choose the chunk size that needs the least metadata."""
    end = int(pages.table.end[-1])
    plans = []
    for bits in range(20):
        size = PAGE << bits
        copied = _chunks_to_copy(pages, size)
        plans.append(ChunkPlan(bits, copied, 8 * -(-end // size) + len(copied) * size))
        if size >= end:
            break
    return min(plans, key=lambda plan: plan.cost)


def _chunks_to_copy(pages: Pages, size: int) -> Int64Array:
    """Chunks that are neither one run of one source nor all zeros."""
    inner = pages.table.start[1:]
    split = inner[inner % size != 0] // size
    copied = pages.copied
    first, last = copied[:, 0] // size, -(-copied[:, 1] // size)
    count = last - first
    inside = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
    return distinct(np.concatenate((split, inside)).astype(np.int64))


def device_order(pages: Pages) -> list[int]:
    """The sources that are the image's devices, in the order of their slots."""
    sources: list[int] = distinct(pages.table.only(Kind.DATA).source.astype(np.int64)).tolist()
    return sources


def iter_image(
    pages: Pages, plan: ChunkPlan, device_sizes: list[int]
) -> Iterator[tuple[int, bytes | npt.NDArray[np.void]]]:
    """Make the image, except for the copied chunks.

    Args:
        pages: The file; no page of it may be MISSING.
        plan: The result of ``plan_chunks``.
        device_sizes: Bytes in each device of ``device_order``.

    Yields:
        A piece of the image, and its offset.
    """
    copies = copies_at(pages, plan)
    total = copies + len(plan.copied) * plan.size
    yield _SUPERBLOCK_AT, _superblock(total // PAGE, len(device_sizes))
    yield _DEVICES_AT, b"".join(_DEVICE.pack(b"", -(-n // PAGE), 0, b"") for n in device_sizes)
    yield _ROOT_AT, _root()
    yield _FILE_AT, _inode(_CHUNKS, 0o100400, pages.size, _WITH_DEVICES | plan.bits)
    count = -(-int(pages.table.end[-1]) // plan.size)
    device_of = {source: n + 1 for n, source in enumerate(device_order(pages))}
    devices = np.array([device_of.get(n, 0) for n in range(max(device_of, default=0) + 1)])
    for first in range(0, count, _ROWS_AT_ONCE):
        last = min(first + _ROWS_AT_ONCE, count)
        rows = _chunk_rows(pages, plan, np.arange(first, last, dtype=np.int64), devices, copies)
        yield _TABLE_AT + 8 * first, rows


def copies_at(pages: Pages, plan: ChunkPlan) -> int:
    """Where in the image the copied chunks start; they are in order."""
    return align_up(_TABLE_AT + 8 * -(-int(pages.table.end[-1]) // plan.size), PAGE)


def _chunk_rows(
    pages: Pages, plan: ChunkPlan, chunks: Int64Array, devices: Int64Array, copies: int
) -> npt.NDArray[np.void]:
    table = pages.table
    at = chunks * plan.size
    row = np.searchsorted(table.start, at, side="right") - 1
    is_data = table.kind[row] == Kind.DATA
    rows = np.zeros(len(chunks), dtype=CHUNK_DTYPE)
    rows["device"] = np.where(is_data, devices[np.where(is_data, table.source[row], 0)], 0)
    place = (table.offset[row] + at - table.start[row]) // PAGE
    rows["page"] = np.where(is_data, place, _HOLE)
    copied = np.isin(chunks, plan.copied)
    rows["device"][copied] = 0
    number = np.searchsorted(plan.copied, chunks[copied])
    rows["page"][copied] = (copies + number * plan.size) // PAGE
    return rows


def _superblock(pages: int, devices: int) -> bytes:
    return _SUPERBLOCK.pack(
        *(_MAGIC, 0, 0, PAGE.bit_length() - 1, 0, _ROOT_AT // _NODE_SIZE, 2, 0, 0, pages, 0, 0),
        *(b"", b"", _CHUNKED | _DEVICE_TABLE, 0, devices, _DEVICES_AT // _DEVICE.size),
        *(0, 0, 0, 0, 0, b""),
    )


def _root() -> bytes:
    root, file = _ROOT_AT // _NODE_SIZE, _FILE_AT // _NODE_SIZE
    names = {".": (root, _DIRECTORY), "..": (root, _DIRECTORY), FILE_NAME: (file, _REGULAR)}
    at = _ENTRY.size * len(names)
    entries, text = b"", b""
    for name, (node, kind) in names.items():
        entries += _ENTRY.pack(node, at + len(text), kind, 0)
        text += name.encode()
    body = entries + text
    return _inode(_INLINE, 0o40500, len(body), 0) + body


def _inode(layout: int, mode: int, size: int, chunk_format: int) -> bytes:
    extended = 1 | layout << 1
    return _INODE.pack(extended, 0, mode, 0, size, chunk_format, 1, 0, 0, 0, 0, 1, 0, 0)
