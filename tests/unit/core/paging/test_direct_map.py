"""The direct map, and the kernel's image, told from runs written by hand."""

from __future__ import annotations

import pytest

from tests.builders.mappings import MIB, ROOT, mappings
from vmcorefs.core.paging.direct_map import directly_mapped, find_direct_map, image_span

TEXT, DIRECT = 0xFFFFFFFF81000000, 0xFFFF888000000000
KERNEL = mappings(
    (DIRECT + 0x1000, 0x1000, 0x9E000),
    (DIRECT + MIB, MIB, 63 * MIB),
    (0xFFFFC90000000000, 40 * MIB, 0x4000),
    (TEXT, 16 * MIB, 8 * MIB),
)


def test_the_direct_map_is_where_most_is_seen_at_the_distance_of_the_root() -> None:
    assert find_direct_map(KERNEL) == DIRECT
    assert directly_mapped(KERNEL, DIRECT).tolist() == [[0x1000, 0x9F000], [MIB, 64 * MIB]]
    assert directly_mapped(KERNEL, 1).tolist() == []


def test_vmalloc_space_is_no_direct_map_however_large() -> None:
    huge = (0xFFFFC90000000000, 1 << 40, 1 << 40)
    assert find_direct_map(mappings((DIRECT + MIB, MIB, 63 * MIB), huge)) == DIRECT


@pytest.mark.parametrize("runs", [(), ((DIRECT, 0, MIB),)])
def test_there_is_none_where_nothing_shows_the_root(runs: tuple[tuple[int, int, int], ...]) -> None:
    assert find_direct_map(mappings(*runs)) is None


def test_the_edges_of_a_run() -> None:
    assert find_direct_map(mappings((DIRECT + ROOT, ROOT, 0x1000))) == DIRECT
    assert find_direct_map(mappings((DIRECT + ROOT - 0x1000, ROOT - 0x1000, 0x1000))) is None


DISTANCE = TEXT - 16 * MIB


def test_the_image_is_from_the_first_to_the_last_byte_at_its_distance() -> None:
    assert image_span(KERNEL, DISTANCE) == (TEXT, TEXT + 8 * MIB)
    image = mappings((TEXT + 0x1000, 16 * MIB + 0x1000, MIB), (TEXT + 3 * MIB, 19 * MIB, MIB))
    assert image_span(image, DISTANCE) == (TEXT + 0x1000, TEXT + 4 * MIB)
    assert image_span(KERNEL, DISTANCE + 0x1000) is None
    assert image_span(mappings(), DISTANCE) is None


def test_an_image_at_the_end_of_64_bits() -> None:
    top = mappings((2**64 - MIB, 16 * MIB, MIB))
    assert image_span(top, 2**64 - 17 * MIB) == (2**64 - MIB, 2**64)
