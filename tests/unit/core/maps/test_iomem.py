"""/proc/iomem in pieces: the same as line by line, at any length."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.matching import exactly
from tests.steps import count_steps
from vmcorefs.core.maps import iomem
from vmcorefs.core.maps.iomem import iomem_size, iter_iomem, parse_iomem
from vmcorefs.core.maps.memory_map import make_memory_map
from vmcorefs.core.maps.regions import Region, Regions
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import FormatError

TEXT = (
    "00000000-00000fff : Reserved\n"
    "00001000-0009fbff : System RAM\n"
    "  00002000-00002fff : Kernel code\n"
    "    00002800-000028ff : größer\n"
    "100000000-1fffffffff : System RAM\n"
)


def rows(count: int) -> bytes:
    return b"".join(b"%08x-%08x : System RAM\n" % (n << 13, (n << 13) + 4095) for n in range(count))


@pytest.mark.parametrize("piece", [1, 40, 100, 1 << 20])
def test_each_line_is_a_region(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(iomem, "_PIECE", piece)
    found = parse_iomem(TEXT.encode())
    assert found is not None
    assert list(found) == [
        Region(0, 0x1000, "Reserved", 0, 1),
        Region(0x1000, 0x9FC00, "System RAM", 0, 2),
        Region(0x2000, 0x3000, "Kernel code", 1, 3),
        Region(0x2800, 0x2900, "größer", 2, 4),
        Region(0x100000000, 0x2000000000, "System RAM", 0, 5),
    ]
    assert (found[1], found[-1].start) == (found[1:2][0], 0x100000000)
    assert "".join(iter_iomem(found)) == TEXT
    assert iomem_size(found) == len(TEXT.encode())


@pytest.mark.parametrize(
    ("line", "region"),
    [
        (b"0-0 : x", Region(0, 1, "x", 0, 1)),
        (b"fff-1fffffffffffffffffff : x", Region(0xFFF, 2**62, "x", 0, 1)),
        (b"0000000000000000001000-1fff : x\r", Region(0x1000, 0x2000, "x", 0, 1)),
        (b"   1000-1fff :  - : ab- \t", Region(0x1000, 0x2000, "- : ab-", 1, 1)),
        (b"1000-1fff : \xff", Region(0x1000, 0x2000, "\ufffd", 0, 1)),
    ],
)
def test_what_a_line_may_be(line: bytes, region: Region) -> None:
    for text in (line, line + b"\n", line + b"\n\n \n"):
        found = parse_iomem(text)
        assert found is not None
        assert list(found) == [region]


@pytest.mark.parametrize(
    "line",
    [
        b"1000-1fff : ",
        b"1000-1fff: x",
        b"1000-1fff :x",
        b"1000- : x",
        b"-1fff : x",
        b"1000 1fff : x",
        b"1000-1FFF : x",
        b"1000-1fff",
        b"1000-",
        b"10",
        b"\t1000-1fff : x",
    ],
)
def test_a_line_of_something_else_is_refused_with_its_number(line: bytes) -> None:
    assert parse_iomem(line) is None
    said = f"line 3: {line.decode()[:60]!r} is not a line of /proc/iomem"
    for text in (b"0-0 : x\n\n%b", b"0-0 : x\n\n%b\n2-3 : y\n"):
        with pytest.raises(FormatError, match=exactly(said)):
            parse_iomem(text % line)


def test_the_size_of_a_map_is_that_of_its_text() -> None:
    chance = random.Random(3)  # noqa: S311  # the same regions in every run
    starts = [*sorted(chance.sample(range(1, 1 << 50), 300)), 1 << 60]
    regions = Regions.of(
        Region(start, start + chance.randrange(1, 1 << chance.randrange(1, 60)), name, depth)
        for start, name, depth in zip(
            starts, ("System RAM", "ä", "") * 101, (0, 1, 7) * 101, strict=False
        )
    )
    assert iomem_size(regions) == len("".join(iter_iomem(regions)).encode())
    assert iomem_size(Regions.of([])) == 0


def test_a_map_of_many_ranges_is_read_and_checked_without_a_step_for_each() -> None:
    def steps(count: int) -> int:
        text = rows(count)

        def read() -> None:
            found = parse_iomem(text)
            assert found is not None
            iomem_size(make_memory_map(found, "test").regions)

        return count_steps(read)

    # only its name is looked at by itself
    assert steps(4000) - steps(1000) < 3000 * 40


def test_regions_of_one_name_are_as_their_ranges() -> None:
    ranges = make_ranges([(0, 4), (8, 9)])
    regions = Regions.flat(ranges, "System RAM")
    assert np.array_equal(regions.ranges(lambda name: name == "System RAM"), ranges)
    assert list(regions) == [Region(0, 4, "System RAM"), Region(8, 9, "System RAM")]


def test_more_regions_than_can_be_held_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iomem, "_PIECE", 100)
    monkeypatch.setattr(iomem, "MAX_REGIONS", 20)
    assert parse_iomem(rows(20)) is not None
    with pytest.raises(FormatError, match=exactly("more than 20 regions")):
        parse_iomem(rows(21))
