"""kdump-compressed files, read with ``struct`` alone."""

from __future__ import annotations

import struct
import zlib

import pytest
from msgspec.structs import replace

from tests.builders.dead_machines import CRASH_TIME, Flavour, stamped
from tests.builders.dumps import PAGE, MemoryOutput, Watch, small_dump
from tests.oracles.kdump_reader import KdumpFile
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.space.extents import Kind, make_extents, merge
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import ConfigError, OutputError, UnsupportedError
from vmcorefs.reader import Reader
from vmcorefs.save.codecs import CODEC_NAMES, find_codec
from vmcorefs.save.dump import Dump, Observer, Output
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.sources.base import BytesSource

FLAGS = {"none": 0, "zlib": 1, "lzo": 2, "snappy": 4, "zstd": 0x20}
INCOMPLETE = 8
ALL = range(64)


def page(pfn: int) -> bytes:
    return stamped(pfn * PAGE, (pfn + 1) * PAGE)


def write(
    dump: Dump,
    *outputs: Output,
    codec: str = "zlib",
    threads: int = 1,
    watch: Observer | None = None,
) -> KdumpFile:
    output = MemoryOutput()
    KdumpFormat(find_codec(codec), threads)(dump, outputs or [output], watch or Watch())
    return KdumpFile(bytes(output.data))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_every_page_comes_back(codec: str, threads: int) -> None:
    file = write(small_dump(), codec=codec, threads=threads)

    assert file.pages == {pfn: page(pfn) for pfn in ALL}
    assert file.status == FLAGS[codec]
    assert {flags for _offset, _size, flags in file.rows.values()} == {FLAGS[codec]}


def test_the_headers_say_what_the_machine_was() -> None:
    dump = small_dump(level=16)
    file = write(dump)
    notes = file.data[file.sub(48) : file.sub(48) + file.sub(56)]
    info = file.data[file.sub(32) : file.sub(32) + file.sub(40)]

    assert file.data[:12] == b"KDUMP   \x06\0\0\0"
    assert file.data[12:17] == b"Linux"
    assert file.data[12 + 2 * 65 :].startswith(b"6.1.0-test\0")
    assert file.data[12 + 4 * 65 :].startswith(b"x86_64\0")
    assert file.main(408, "Q") == CRASH_TIME
    assert (file.main(440, "I"), file.sub(96)) == (64, 64)
    assert file.main(460, "i") == 1  # of the one NT_PRSTATUS
    assert file.sub(8, "i") == 16
    assert notes == dump.notes
    assert info.startswith(b"OSRELEASE=6.1.0-test\n")


def test_what_is_left_out_is_ram_but_not_stored() -> None:
    kinds = [PageKind.KERNEL] * 64
    kinds[5:9] = [PageKind.FREE] * 4
    kinds[20] = PageKind.USER
    kinds[30] = PageKind.HWPOISON
    watch = Watch()

    file = write(small_dump(kinds=kinds, level=16), watch=watch)

    assert file.bitmaps[0] == set(ALL)
    assert file.bitmaps[1] == set(ALL) - {5, 6, 7, 8, 30}
    assert file.page(20) == page(20)
    assert watch.steps[-1] == (59, 59)


def test_pages_that_are_zero_share_one() -> None:
    file = write(small_dump(zero=[0, 7, 63]), codec="lzo")

    assert {file.rows[pfn] for pfn in (0, 7, 63)} == {(file.descriptors + 24 * 64, PAGE, 0)}
    assert file.page(63) == bytes(PAGE)
    assert file.page(62) == page(62)


@pytest.mark.parametrize(("level", "where"), [(0, "kept"), (1, "left_out")])
def test_zero_pages_are_counted_as_such(level: int, where: str) -> None:
    dump = small_dump(zero=[0, 7, 63], level=level, kinds=[PageKind.USER] * 8)

    written = KdumpFormat(find_codec("zlib"), 1)(dump, [MemoryOutput()], Watch())

    assert getattr(written, where)[PageKind.ZERO] == 3
    assert (written.kept[PageKind.USER], written.kept[PageKind.KERNEL]) == (6, 55)
    assert written.kept.sum() + written.left_out.sum() == 64


def test_holes_in_the_ram_are_in_no_bitmap() -> None:
    low, high = (0, 3 * PAGE), (200_000 * PAGE, 200_002 * PAGE)
    tables = [
        make_extents(make_ranges([rows]), kind=Kind.DATA, source=0, offset=offset)
        for rows, offset in ((low, 0), (high, 3 * PAGE))
    ]
    source = BytesSource("ram", stamped(*low) + stamped(*high))
    memory = Reader("memory", merge(*tables), [source])

    file = write(replace(small_dump(), ram=make_ranges([low, high]), memory=memory))

    assert file.bitmaps[0] == file.bitmaps[1] == {0, 1, 2, 200_000, 200_001}
    assert file.page(2) == page(2)
    assert file.page(200_001) == page(200_001)


def test_what_of_a_page_is_not_ram_is_zeros() -> None:
    file = write(small_dump([(0x1000, 0x2C00), (0x2E00, 0x4000)]))

    assert file.bitmaps[0] == {1, 2, 3}
    assert file.page(2) == stamped(0x2000, 0x2C00) + bytes(0x200) + stamped(0x2E00, 0x3000)


def test_a_page_that_does_not_shrink_is_stored_as_it_is() -> None:
    noise = b"".join(zlib.crc32(bytes([i % 256, i // 256])).to_bytes(4) for i in range(1024))

    file = write(small_dump([(0, PAGE)], memory=noise))

    assert file.rows[0][1:] == (PAGE, 0)
    assert file.page(0) == noise


def test_a_page_that_cannot_be_read_is_lost_alone() -> None:
    watch = Watch()

    file = write(small_dump(bad=[10, 11, 40]), watch=watch)

    assert {pfn for pfn in ALL if file.page(pfn) is None} == {10, 11, 40}
    assert file.page(12) == page(12)
    assert file.status == 1 | INCOMPLETE
    assert [(paddr, size) for paddr, size, _reason in watch.losses] == [
        *((10 * PAGE, 2 * PAGE), (40 * PAGE, PAGE))
    ]
    assert "Input/output error" in watch.losses[0][2]


def test_a_lost_page_claims_to_be_compressed() -> None:
    """Makedumpfile does not look at the offset, and would take what is in its buffer."""
    assert write(small_dump(bad=[10]), codec="none").rows[10] == (0, 0, 1)


def opens_as_far_as_it_got(file: KdumpFile) -> int:
    got = {pfn: read for pfn, read in file.pages.items() if read is not None}
    assert file.status == INCOMPLETE
    assert got == {pfn: page(pfn) for pfn in range(len(got))}
    assert {file.rows[pfn] for pfn in range(len(got), 2048)} <= {(0, 0, 1)}
    return len(got)


def test_a_full_disk_leaves_what_was_written() -> None:
    dump = small_dump([(0, 2048 * PAGE)])
    output = MemoryOutput(room=3 << 20)

    with pytest.raises(OutputError, match="No space left"):
        write(dump, output, codec="none")

    assert opens_as_far_as_it_got(KdumpFile(bytes(output.data))) == 512


def test_a_stop_leaves_what_was_done() -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    class Impatient(Watch):
        def pages(self, done: int, total: int) -> None:
            if done > 1000:
                raise Stopped

    output = MemoryOutput()

    with pytest.raises(Stopped):
        write(small_dump([(0, 2048 * PAGE)]), output, codec="none", threads=2, watch=Impatient())

    assert opens_as_far_as_it_got(KdumpFile(bytes(output.data))) == 1024


def test_a_file_cut_at_any_write_opens_as_far_as_it_got() -> None:
    class Recorder(MemoryOutput):
        def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
            super().pwrite(data, offset)
            states.append(bytes(self.data))

    states: list[bytes] = []

    write(small_dump([(0, 2048 * PAGE)]), Recorder(), codec="none")

    front = next(number for number, state in enumerate(states) if len(state) > 28672 + 2048 * 24)
    seen = [opens_as_far_as_it_got(KdumpFile(state)) for state in states[front:-1]]
    assert seen == sorted(seen)
    assert seen[-1] == 2048
    assert KdumpFile(states[-1]).status == 0


def test_pages_are_written_in_big_aligned_pieces() -> None:
    output = MemoryOutput()

    write(small_dump([(0, 2048 * PAGE)]), output, codec="none")

    data = KdumpFile(bytes(output.data)).descriptors + 24 * 2048
    pieces = [piece for piece in output.pieces if piece[0] >= data]
    assert all(offset % (1 << 20) == 0 for offset, _size in pieces[1:])
    assert all(size >= 1 << 20 for _offset, size in pieces[1:-1])
    assert pieces == sorted(pieces)


def test_parts_hold_the_pages_between_them() -> None:
    kinds = [PageKind.FREE] * 512 + [PageKind.KERNEL] * 1536
    outputs = [MemoryOutput(), MemoryOutput(), MemoryOutput()]
    watch = Watch()

    write(small_dump([(0, 2048 * PAGE)], kinds=kinds, level=16), *outputs, watch=watch)
    files = [KdumpFile(bytes(output.data)) for output in outputs]

    assert [file.sub(12, "i") for file in files] == [1, 1, 1]
    assert [(file.sub(80), file.sub(88)) for file in files] == [(0, 960), (960, 1472), (1472, 2048)]
    assert [(file.sub(16), file.sub(24)) for file in files] == [(0, 960), (960, 1472), (1472, 2048)]
    assert all(file.bitmaps == (set(range(2048)), set(range(512, 2048))) for file in files)
    assert [min(file.rows) for file in files] == [512, 960, 1472]
    assert {pfn: read for file in files for pfn, read in file.pages.items()} == {
        pfn: page(pfn) for pfn in range(512, 2048)
    }
    assert watch.steps[-1] == (1536, 1536)


def test_more_parts_than_pages_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 parts of 64 pages"):
        write(small_dump(), MemoryOutput(), MemoryOutput())


def test_a_big_endian_machine_s_dump_is_big_endian() -> None:
    output = MemoryOutput()
    dump = small_dump(flavour=Flavour(64, ">", 21), page_size=65536)

    KdumpFormat(find_codec("zlib"), 1)(dump, [output], Watch())
    file = KdumpFile(bytes(output.data), ">")

    assert file.block == 65536
    assert file.pages == {pfn: stamped(pfn << 16, (pfn + 1) << 16) for pfn in range(4)}


def test_an_i386_machine_s_dump_has_its_headers() -> None:
    output = MemoryOutput()

    KdumpFormat(find_codec("none"), 1)(small_dump(flavour=Flavour(32, "<", 3)), [output], Watch())
    data = bytes(output.data)

    assert struct.unpack_from("<Iii", data, 412)[1:] == (PAGE, 1)
    assert struct.unpack_from("<Q", data, PAGE + 72) == (64,)
    assert struct.unpack_from("<Q", data, PAGE + 32) == (PAGE + 80,)
    assert stamped(0, PAGE) in data


def test_32_bit_arm_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="32-bit ARM"):
        write(small_dump(flavour=Flavour(32, "<", 40)))


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="codec 'rar': expected one of zlib, lzo"):
        find_codec("rar")
