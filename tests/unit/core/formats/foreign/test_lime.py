"""LiME's and AVML's headers: which memory is in the file, and which part of it is lost."""

from __future__ import annotations

import struct

from vmcorefs.core.formats.foreign.lime import Range, read_lime
from vmcorefs.core.formats.foreign.recognise import recognise
from vmcorefs.core.formats.foreign.signature import Foreign


def header(start: int, last: int, version: int = 1, magic: int = 0x4C694D45) -> bytes:
    return struct.pack("<IIQQQ", magic, version, start, last, 0)


WHOLE = header(0x1000, 0x3FFF) + bytes(0x3000) + header(0x10000, 0x1FFFF) + bytes(0x10000)
"""The ranges [0x1000, 0x4000) and [0x10000, 0x20000)."""


def known(data: bytes, name: str = "lime.img") -> Foreign:
    found = recognise(lambda offset, size: data[offset : offset + size], len(data), name)
    assert found is not None
    return found


def test_each_range_is_told_as_a_piece() -> None:
    found = known(WHOLE)
    assert found.what == "a LiME file, as LiME and AVML 1 write"
    assert found.advice == (
        "give the memory in it as pieces: lime.img@0x1000:0x20+0x3000"
        " lime.img@0x10000:0x3040+0x10000"
    )


def test_a_range_that_is_cut_is_named_from_where_on_it_lacks() -> None:
    found = known(WHOLE[:-5000])
    assert found.what.endswith(
        "; its end is lost: of the range [0x10000, 0x20000) it lacks [0x1ec78, 0x20000), as the"
        " file ends at 0x11cb8"
    )
    assert found.advice.endswith("lime.img@0x10000:0x3040+0xec78")


def test_a_file_cut_right_behind_a_header_has_nothing_of_its_range() -> None:
    cut = WHOLE[: 0x20 + 0x3000 + 0x20]
    ranges = read_lime(lambda offset, size: cut[offset : offset + size], len(cut)).ranges
    assert ranges == (Range(0x1000, 0x4000, 0x20, 0x3000), Range(0x10000, 0x20000, 0x3040, 0))
    assert "it lacks [0x10000, 0x20000)" in known(cut).what
    assert known(cut).advice.endswith("pieces: lime.img@0x1000:0x20+0x3000")


def test_headers_that_cannot_be_followed_give_no_advice() -> None:
    first = header(0x1000, 0x3FFF) + bytes(0x3000)
    for rest, why in (
        (bytes(100), "there is no valid header at 0x3020"),
        (b"EMiL", "the file ends within the header at 0x3020"),
        (header(0x2000, 0x1FFF), "there is no valid header at 0x3020"),
        (header(0x2000, (1 << 63) + 1), "there is no valid header at 0x3020"),
        (header(0x3000, 0x4FFF), "the header at 0x3020 has [0x3000, 0x5000) again"),
    ):
        found = known(first + rest)
        assert found.what.endswith(f"; {why}")
        assert found.advice == ""


def test_many_ranges_are_not_all_listed() -> None:
    found = known(b"".join(header(n << 13, (n << 13) + 0xFFF) + bytes(0x1000) for n in range(40)))
    assert found.what.endswith(", of 40 ranges")
    assert found.advice == "give each as a piece: {file}@START:OFFSET+SIZE"


def test_a_name_is_quoted_for_a_shell() -> None:
    assert "'my ram'@0x1000:0x20+0x3000" in known(WHOLE, "my ram").advice


def test_avml_2_is_to_be_converted() -> None:
    found = known(header(0, 0xFFF, version=2, magic=0x4C4D5641) + bytes(99))
    assert found.what == "an AVML 2 file, which is compressed"
    assert found.advice == "make a LiME file of it first: avml-convert {file} NEW"


def test_another_version_is_named() -> None:
    assert known(header(0, 0xFFF, version=7) + bytes(99)).what.endswith("unknown version 7")
