"""The EROFS metadata, byte by byte as fs/erofs/erofs_fs.h lays it out."""

from __future__ import annotations

import struct

from tests.builders.extents import Row, table
from vmcorefs.core.space.extents import Kind
from vmcorefs.fuse.planes.erofs import ChunkPlan, device_order, iter_image, plan_chunks
from vmcorefs.fuse.planes.pages import Pages

MIB = 1 << 20


def pages(*rows: Row) -> Pages:
    extents = table(*rows)
    return Pages(extents, int(extents.end[-1]))


def image_of(file: Pages, plan: ChunkPlan, sizes: list[int]) -> bytes:
    image = bytearray(1 << 16)
    for at, piece in iter_image(file, plan, sizes):
        data = piece if isinstance(piece, bytes) else piece.tobytes()
        image[at : at + len(data)] = data
    return bytes(image)


def test_a_file_of_one_run_is_one_chunk() -> None:
    plan = plan_chunks(pages((0, 64 * MIB, 0, 0, Kind.DATA)))
    assert (plan.size, plan.copied.tolist(), plan.cost) == (64 * MIB, [], 8)


def test_chunks_where_extents_meet_or_pages_are_copied_are_copied() -> None:
    file = pages(
        (0, 0x2000, 0, -1, Kind.HOLE),
        (0x2000, 0xE000, 0, 0, Kind.DATA),
        (0x10000, 0x4000, 0x40000, 0, Kind.DATA),
    )
    plan = plan_chunks(file)
    assert plan.size == 0x2000
    assert plan.copied.tolist() == [0]
    assert plan.cost == 8 * 10 + 0x2000


def test_every_chunk_names_its_device_and_page() -> None:
    file = pages(
        (0, 0x1000, 0, -1, Kind.HOLE),
        (0x1000, 0x2000, 0x7000, 3, Kind.DATA),
        (0x3000, 0x1000, 0, -1, Kind.ZERO),
        (0x4000, 0x1000, 0x123000, 5, Kind.DATA),
    )
    plan = plan_chunks(file)
    assert (plan.size, plan.copied.tolist()) == (0x1000, [0])
    assert device_order(file) == [3, 5]
    image = image_of(file, plan, [0x9000, 0x200001])
    assert struct.unpack_from("<I", image, 1024)[0] == 0xE0F5E1E2
    assert image[1024 + 12] == 12
    assert struct.unpack_from("<I", image, 1024 + 80)[0] == 0xC
    count, slot = struct.unpack_from("<HH", image, 1024 + 86)
    assert (count, slot * 128) == (2, 1152)
    assert struct.unpack_from("<I", image, 1152 + 64)[0] == 9
    assert struct.unpack_from("<I", image, 1280 + 64)[0] == 0x201
    root = struct.unpack_from("<H", image, 1024 + 14)[0] * 32
    assert struct.unpack_from("<H", image, root + 4)[0] == 0o40500
    names = image[root + 64 :][: struct.unpack_from("<Q", image, root + 8)[0]]
    assert names.endswith(b"...file")
    inode = struct.unpack_from("<Q", names, 24)[0] * 32
    assert struct.unpack_from("<H", image, inode)[0] == 9  # extended, chunk based
    assert struct.unpack_from("<QI", image, inode + 8) == (0x5000, 0x20)
    chunks = list(struct.iter_unpack("<HHI", image[inode + 64 : inode + 64 + 40]))
    blocks = struct.unpack_from("<I", image, 1024 + 36)[0]
    assert chunks == [
        (0, 0, blocks - 1),
        (0, 1, 7),
        (0, 1, 8),
        (0, 0, 0xFFFFFFFF),
        (0, 2, 0x123),
    ]


def test_the_metadata_of_a_terabyte_of_few_extents_is_small() -> None:
    gap = 0xC0000000
    file = pages(
        (0, 0x5000, 0, -1, Kind.HOLE),
        (0x5000, gap, 0, 0, Kind.DATA),
        (0x5000 + gap, 1 << 40, 1 << 32, 0, Kind.DATA),
    )
    assert plan_chunks(file).cost < 9 * MIB
