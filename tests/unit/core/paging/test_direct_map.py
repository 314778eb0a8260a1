"""The direct map, and the kernel's image, told from runs written by hand."""

from __future__ import annotations

import pytest

from tests.builders.mappings import MIB, ROOT, mappings
from vmcorefs.core.paging.direct_map import (
    DirectMap,
    Told,
    directly_mapped,
    image_span,
    weigh,
)
from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.space.ranges import make_ranges

TEXT, DIRECT, VMALLOC = 0xFFFFFFFF81000000, 0xFFFF888000000000, 0xFFFFC90000000000
DISTANCE = TEXT - 16 * MIB
RAM = [(0x1000, 0x9F000), (MIB, 64 * MIB)]
IMAGE = (TEXT, 16 * MIB, 8 * MIB)
KERNEL = mappings(
    (DIRECT + 0x1000, 0x1000, 0x9E000),
    (DIRECT + MIB, MIB, 63 * MIB),
    (VMALLOC, 40 * MIB, 0x4000),
    IMAGE,
)
ROOT_SAYS = "the page tables map their own root at it"
BASE_SAYS = "page_offset_base says so"


def told(distance: int, *, alone: bool = True) -> list[Told]:
    return [(distance, "page_offset_base", alone)]


def find(
    found: Mappings, *, ram: list[tuple[int, int]] = RAM, said: list[Told] | None = None
) -> DirectMap:
    return weigh(found, image=DISTANCE, memory=make_ranges(ram), told=said or ())


def test_all_the_evidence_agrees() -> None:
    found = find(KERNEL, said=told(DIRECT))
    most = "the page tables map 63.62 MiB of 63.62 MiB of memory at it"
    assert found == DirectMap(DIRECT, (BASE_SAYS, ROOT_SAYS, most))
    assert directly_mapped(KERNEL, DIRECT).tolist() == [[0x1000, 0x9F000], [MIB, 64 * MIB]]
    assert directly_mapped(KERNEL, 1).tolist() == []


def test_the_distance_of_the_image_is_none_though_the_root_is_in_it() -> None:
    found = find(mappings((VMALLOC, 40 * MIB, 0x4000), IMAGE))
    assert found.distance is None
    assert found.against == ("neither page tables nor symbols tell where it is",)


def test_a_lost_table_over_the_root_leaves_what_maps_most_of_memory() -> None:
    below, above = (DIRECT, 0, 16 * MIB), (DIRECT + 20 * MIB, 20 * MIB, 44 * MIB)
    found = find(mappings(below, above, IMAGE), ram=[(0, 64 * MIB)])
    line = "the page tables map 60 MiB of 64 MiB of memory at it"
    assert found == DirectMap(DIRECT, (line,))


@pytest.mark.parametrize(("size", "wanted"), [(32 * MIB, None), (32 * MIB + 1, DIRECT)])
def test_half_of_memory_is_not_most_of_it(size: int, wanted: int | None) -> None:
    far = (DIRECT + 20 * MIB, 20 * MIB, size)
    assert find(mappings(far, IMAGE), ram=[(0, 64 * MIB)]).distance == wanted


def test_where_all_tables_of_it_are_lost_a_symbol_tells() -> None:
    assert find(mappings(IMAGE), said=told(DIRECT)) == DirectMap(DIRECT, (BASE_SAYS,))
    # a guess at it is not enough
    assert find(mappings(IMAGE), said=told(DIRECT, alone=False)).distance is None


def test_what_is_told_and_a_single_page_at_that_distance_are_two_facts() -> None:
    one = (DIRECT + 40 * MIB, 40 * MIB, 0x1000)
    for alone in (True, False):
        found = find(mappings(one, IMAGE), said=told(DIRECT, alone=alone))
        assert found.distance == DIRECT
        assert found.reasons == (
            BASE_SAYS, "the page tables map 4 KiB of memory at it"
        )  # fmt: skip


def test_facts_that_contradict_each_other_tell_nothing() -> None:
    other = DIRECT + (1 << 40)
    found = find(KERNEL, said=told(other))
    assert found.distance is None
    assert found.reasons == ()
    assert sorted(line.partition(":")[0] for line in found.against) == [
        f"{DIRECT:#x}", f"{other:#x}"
    ]  # fmt: skip
    # the root is at one distance, and most of memory at another
    torn = mappings((DIRECT + ROOT, ROOT, 0x1000), (VMALLOC, 20 * MIB, 40 * MIB), IMAGE)
    assert find(torn).distance is None


def test_other_memory_where_it_would_be_contradicts_it() -> None:
    found = find(mappings((DIRECT + 8 * MIB, 40 * MIB, MIB), IMAGE), said=told(DIRECT))
    assert found.distance is None
    (line,) = found.against
    assert line.endswith("but the page tables map 0xffff888000800000 to 0x2800000")


def test_what_is_mapped_below_it_contradicts_nothing() -> None:
    """As riscv64's fixmap, which is right below the direct map of RAM that begins at 2 GiB."""
    start = 2 << 30
    below = (DIRECT + start - 0x1000, start + 20 * MIB, 0x1000)
    direct = (DIRECT + start, start, 64 * MIB)
    # a hypervisor's dump has ROM too
    ram = [(0x1000, 0x10000), (start, start + 64 * MIB)]
    assert find(mappings(below, direct), ram=ram, said=told(DIRECT)).distance == DIRECT


def test_vmalloc_space_is_no_direct_map_however_large() -> None:
    huge = (VMALLOC, 1 << 40, 1 << 40)
    assert find(mappings((DIRECT + MIB, MIB, 63 * MIB), huge, IMAGE)).distance == DIRECT


def test_the_edges_of_a_run() -> None:
    ram = [(0, 1 << 30)]
    assert find(mappings((DIRECT + ROOT, ROOT, 0x1000)), ram=ram).distance == DIRECT
    below = mappings((DIRECT + ROOT - 0x1000, ROOT - 0x1000, 0x1000))
    assert find(below, ram=ram).distance is None


def test_without_memory_or_mappings_there_is_none() -> None:
    assert find(mappings()).distance is None
    assert find(KERNEL, ram=[]).distance is None


def test_a_check_that_fits_is_a_fact() -> None:
    checks = (lambda distance: f"fits {distance:#x}", lambda _: "")
    one = mappings((DIRECT + ROOT, ROOT, 0x1000), IMAGE)
    found = weigh(one, image=DISTANCE, memory=make_ranges(RAM), checks=checks)
    assert found.reasons == (ROOT_SAYS, f"fits {DIRECT:#x}")


def test_a_check_bears_out_what_may_not_count_alone() -> None:
    def fits(distance: int) -> str:
        return "a pointer fits" if distance == DIRECT else ""

    for distance, wanted in ((DIRECT, DIRECT), (DIRECT + (1 << 30), None)):
        found = weigh(
            mappings(IMAGE),
            image=DISTANCE,
            memory=make_ranges(RAM),
            told=told(distance, alone=False),
            checks=[fits],
        )
        assert found.distance == wanted
        assert found.reasons == ((BASE_SAYS, "a pointer fits") if wanted else ())


def test_the_image_is_from_the_first_to_the_last_byte_at_its_distance() -> None:
    assert image_span(KERNEL, DISTANCE) == (TEXT, TEXT + 8 * MIB)
    image = mappings((TEXT + 0x1000, 16 * MIB + 0x1000, MIB), (TEXT + 3 * MIB, 19 * MIB, MIB))
    assert image_span(image, DISTANCE) == (TEXT + 0x1000, TEXT + 4 * MIB)
    assert image_span(KERNEL, DISTANCE + 0x1000) is None
    assert image_span(mappings(), DISTANCE) is None


def test_an_image_at_the_end_of_64_bits() -> None:
    top = mappings((2**64 - MIB, 16 * MIB, MIB))
    assert image_span(top, 2**64 - 17 * MIB) == (2**64 - MIB, 2**64)
