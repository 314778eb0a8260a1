"""LiME's and AVML's headers, and snappy's chunks: where the memory is, and what is lost."""

from __future__ import annotations

import cramjam
import pytest

from tests.builders.lime import header
from tests.matching import exactly
from vmcorefs.core.formats.compressed.snappy import CHUNK, Chunks
from vmcorefs.core.formats.lime import (
    BLOCK,
    Headers,
    ends_of_pages,
    is_in_blocks,
    left_out,
    read_headers,
    stored_ranges,
)
from vmcorefs.core.formats.magics import AVML, LIME
from vmcorefs.core.formats.window import Window
from vmcorefs.errors import FormatError

WHOLE = header(0x1000, 0x3FFF) + bytes(0x3000) + header(0x10000, 0x1FFFF) + bytes(0x10000)
"""The ranges [0x1000, 0x4000) and [0x10000, 0x20000)."""


def parse(data: bytes) -> Headers:
    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    return read_headers(read, len(data), LIME, lambda at, size: at + size)


def rows(headers: Headers, size: int) -> list[tuple[int, int, int]]:
    held = stored_ranges(headers, size)
    return list(zip(held.start.tolist(), held.end.tolist(), held.offset.tolist(), strict=True))


def test_each_range_is_where_its_header_says() -> None:
    found = parse(WHOLE)
    assert rows(found, len(WHOLE)) == [(0x1000, 0x4000, 0x20), (0x10000, 0x20000, 0x3040)]
    assert found.ranges.tolist() == [[0x1000, 0x4000], [0x10000, 0x20000]]
    assert (found.lost, found.unread) == ("", 0)


def test_ranges_may_be_in_any_order() -> None:
    data = WHOLE[0x3020:] + WHOLE[:0x3020]
    assert rows(parse(data), len(data)) == [(0x1000, 0x4000, 0x10040), (0x10000, 0x20000, 0x20)]


def test_of_a_range_that_is_cut_its_start_is_held() -> None:
    cut = WHOLE[:-5000]
    assert rows(parse(cut), len(cut)) == [(0x1000, 0x4000, 0x20), (0x10000, 0x1EC78, 0x3040)]
    assert parse(cut).ranges.tolist() == [[0x1000, 0x4000], [0x10000, 0x20000]]
    right_behind_a_header = WHOLE[:0x3040]
    assert rows(parse(right_behind_a_header), 0x3040) == [(0x1000, 0x4000, 0x20)]


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        (b"junk" * 25, "there is no valid header at 0x3020"),
        (b"EMiL", "the file ends within the header at 0x3020"),
        (header(0x2000, 0x1FFF), "there is no valid header at 0x3020"),
        (header(0x2000, (1 << 63) + 1), "there is no valid header at 0x3020"),
        (header(0x5000, 0x5FFF, version=2), "there is no valid header at 0x3020"),
    ],
)
def test_what_is_behind_a_header_that_cannot_be_true_is_lost(rest: bytes, why: str) -> None:
    found = parse(WHOLE[:0x3020] + rest)
    assert found.lost == why
    assert found.ranges.tolist() == [[0x1000, 0x4000]]


def test_zeros_at_the_end_are_no_range() -> None:
    found = parse(WHOLE + bytes(1000))
    assert (found.lost, found.unread, len(found.start)) == ("", 1000, 2)


def test_two_ranges_with_the_same_memory_contradict_each_other() -> None:
    with pytest.raises(
        FormatError,
        match=exactly(
            "the header at 0x3020 has [0x3000, 0x5000), and another one has a part of that too"
        ),
    ):
        parse(WHOLE[:0x3020] + header(0x3000, 0x4FFF) + bytes(0x2000))


def test_a_file_whose_first_header_cannot_be_true_is_refused() -> None:
    with pytest.raises(FormatError, match=exactly("there is no valid header at 0x0")):
        parse(header(0x2000, 0x1FFF) + bytes(99))


def test_ranges_of_the_size_of_avmls_blocks_tell_that_zeros_are_left_out() -> None:
    assert not is_in_blocks(parse(WHOLE))
    blocks = [(0, BLOCK - 1), (3 * BLOCK, 3 * BLOCK + 99)]
    found = read_headers(
        lambda offset, _: header(*blocks[offset // 32]), 64, LIME, lambda at, _: at
    )
    assert is_in_blocks(found)
    assert left_out(found).tolist() == [[BLOCK, 3 * BLOCK]]


def test_what_avml_never_writes_ends_with_a_page() -> None:
    # the last byte of low memory, of a range of whole pages, or the whole last page
    for last, lacking in ((0x9FBFE, [0x9FBFF, 0xA0000]), (0x3FFFE, [0x3FFFF, 0x40000])):
        assert ends_of_pages(parse(header(0x1000, last))).tolist() == [lacking]
    assert ends_of_pages(parse(header(0x1000, 0x3EFFF))).tolist() == [[0x3F000, 0x40000]]


def follow(stream: bytes, size: int) -> tuple[int, list[tuple[int, int, int]]]:
    chunks = Chunks()
    end = chunks.follow(
        Window(lambda offset, size: stream[offset : offset + size], len(stream)), 0, size
    )
    return end, list(zip(*chunks.columns, strict=True))


NOISE = bytes(range(256)) * 100 + bytes(CHUNK)
STREAM = bytes(cramjam.snappy.compress(NOISE))


def test_the_chunks_of_a_stream() -> None:
    end, found = follow(STREAM + b"more", len(NOISE))
    assert end == len(STREAM)
    assert [size for _, _, size in found] == [CHUNK, len(NOISE) - CHUNK]
    assert found[0][0] == 10
    assert found[1][0] == 10 + found[0][1]
    assert found[1][0] + found[1][1] == len(STREAM)


def test_chunks_that_are_stored_plainly_and_those_to_be_skipped() -> None:
    plain = b"\x01" + (4 + 5).to_bytes(3, "little") + b"\0\0\0\0hello"
    skipped = b"\xfe" + (7).to_bytes(3, "little") + bytes(7)
    start = STREAM[:10]
    assert follow(start + skipped + plain, 5) == (34, [(21, 13, 5)])


def test_a_stream_that_is_cut_has_the_chunks_before_that() -> None:
    (_, second), cut = follow(STREAM, len(NOISE))[1], len(STREAM) - 1
    assert follow(STREAM[:cut], len(NOISE)) == (second[0], follow(STREAM, len(NOISE))[1][:1])
    assert follow(STREAM[:3], len(NOISE)) == (0, [])


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"what is this?", "there is no snappy stream at 0x0"),
        (STREAM[:10] + b"\x02\0\0\0" + bytes(20), "the chunk at 0xa has the unknown type 0x2"),
        (STREAM[:10] + b"\x01\4\0\0" + bytes(20), "the chunk at 0xa has 0 bytes of 91136"),
        (STREAM[:10] + b"\0\x09\0\0" + b"\xff" * 20, "the chunk at 0xa has -1 bytes of 91136"),
    ],
)
def test_what_is_no_stream_is_refused(stream: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=exactly(why)):
        follow(stream, len(NOISE))


def test_avmls_magic_is_its_own() -> None:
    assert header(0, 0, b"AVML", 2).startswith(AVML)
