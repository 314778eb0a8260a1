"""makedumpfile's flattened stream, read with ``struct`` alone."""

from __future__ import annotations

import struct

import pytest

from tests.builders.dead_machines import stamped
from tests.builders.dumps import PAGE, MemoryOutput, Watch, small_dump
from tests.oracles.kdump_reader import KdumpFile
from vmcorefs.core.formats.flattened import Record, check_start, pack_start, parse_record
from vmcorefs.errors import FormatError
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.formats.elf import ElfFormat
from vmcorefs.save.formats.flattened import FlattenedFormat
from vmcorefs.save.formats.kdump import KdumpFormat


def rearrange(stream: bytes) -> tuple[bytes, bool]:
    """The dump that a stream is of, and whether any byte was there twice."""
    assert stream[:4096] == b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1) + bytes(
        4064
    )
    at, dump, spans = 4096, bytearray(), []
    while (record := struct.unpack_from(">qq", stream, at)) != (-1, -1):
        offset, size = record
        dump.extend(bytes(max(offset + size - len(dump), 0)))
        dump[offset : offset + size] = stream[at + 16 : at + 16 + size]
        spans.append((offset, offset + size))
        at += 16 + size
    assert at + 16 == len(stream)
    spans.sort()
    gapless = [end for _start, end in spans[:-1]] == [start for start, _end in spans[1:]]
    return bytes(dump), gapless and spans[0][0] == 0


def test_a_kdump_stream_has_each_byte_once_and_in_its_place() -> None:
    stream, file = MemoryOutput(), MemoryOutput()
    dump = small_dump([(0, 2048 * PAGE)], zero=[5])
    codec = find_codec("zlib")

    written = FlattenedFormat(KdumpFormat(codec, 2, once=True))(dump, [stream], Watch())
    KdumpFormat(codec, 1)(dump, [file], Watch())

    assert rearrange(bytes(stream.data)) == (bytes(file.data), True)
    assert written.size == len(stream.data)


def test_an_elf_stream_has_each_byte_once_and_in_its_place() -> None:
    stream, file = MemoryOutput(), MemoryOutput()
    dump = small_dump([(0, 512 * PAGE)], zero=range(5, 90), kinds=[0] * 100 + [5] * 30, level=16)

    FlattenedFormat(ElfFormat(2, once=True))(dump, [stream], Watch())
    ElfFormat(1)(dump, [file], Watch())

    assert rearrange(bytes(stream.data)) == (bytes(file.data), True)


def test_a_stream_is_written_in_order() -> None:
    stream = MemoryOutput()

    FlattenedFormat(KdumpFormat(find_codec("none"), 1, once=True))(small_dump(), [stream], Watch())

    ends = [0, *(offset + size for offset, size in stream.pieces)]
    assert [offset for offset, _size in stream.pieces] == ends[:-1]


def test_a_lost_page_is_said_in_a_second_header() -> None:
    stream = MemoryOutput()
    dump = small_dump(bad=[10])

    FlattenedFormat(KdumpFormat(find_codec("zlib"), 1, once=True))(dump, [stream], Watch())
    data, once = rearrange(bytes(stream.data))
    file = KdumpFile(data)

    assert not once
    assert file.status == 1 | 8
    assert file.page(10) is None
    assert file.page(11) == stamped(11 * PAGE, 12 * PAGE)


def test_the_start_is_what_makedumpfile_writes() -> None:
    start = pack_start()

    assert len(start) == 4096
    check_start(start)
    with pytest.raises(FormatError, match="type 1 and version 2, expected 1 and 1"):
        check_start(start[:24] + struct.pack(">q", 2))
    with pytest.raises(FormatError, match="not a flattened dump: starts with"):
        check_start(b"\x7fELF" + start[4:])


@pytest.mark.parametrize("record", [(-2, 5), (5, 0), (5, -1), (-1, 5), (2**62, 1)])
def test_a_record_that_cannot_be_true_is_refused(record: tuple[int, int]) -> None:
    with pytest.raises(FormatError, match=f"a flattened record of {record[1]} bytes"):
        parse_record(struct.pack(">qq", *record))


def test_records() -> None:
    assert parse_record(struct.pack(">qq", 4096, 77)) == Record(4096, 77)
    assert parse_record(b"\xff" * 16) is None
    with pytest.raises(FormatError, match="the stream is cut off"):
        parse_record(b"\xff" * 15)
