"""What pages were used for, told by structures written by hand."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from tests.builders.pages import (
    ANON,
    FILE,
    HUGETLB,
    LRU,
    NOT_MAPPED,
    OFFLINE,
    POISON,
    PRIVATE,
    SIZE,
    SLAB,
    SWAPCACHE,
    TOLD,
    UNACCEPTED,
    PageArray,
    Series,
    layout_of,
)
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.pages.page_kinds import read_structs, spread

KERNEL, CACHE, PRIVATE_CACHE, USER = (
    PageKind.KERNEL,
    PageKind.CACHE,
    PageKind.CACHE_PRIVATE,
    PageKind.USER,
)

both = pytest.mark.parametrize("series", get_args(Series))


def kinds(pages: PageArray, **lacks: str) -> list[PageKind]:
    layout = layout_of(TOLD[pages.series] | lacks)
    found = spread(read_structs(pages.structs, pages.first, layout))
    return [PageKind(kind) for kind in found.tolist()]


@both
def test_pages_alone(series: Series) -> None:
    pages = PageArray(series, 16)
    pages.put(1, flags=LRU[series], mapping=FILE)
    pages.put(2, flags=LRU[series] | PRIVATE[series], mapping=FILE)
    pages.put(3, flags=LRU[series], mapping=ANON, mapcount=0)
    pages.put(4, flags=SWAPCACHE[series], mapping=FILE)
    pages.put(5, flags=1 << 10, mapping=FILE)  # PG_owner_priv_1 without PG_swapbacked
    pages.put(6, flags=SWAPCACHE[series] | PRIVATE[series], mapping=ANON)
    pages.put(7, mapcount=OFFLINE[series])
    pages.put(8, flags=PRIVATE[series], mapping=FILE)
    pages.put(9, mapping=ANON)
    pages.free(10, 0)
    assert kinds(pages) == [
        *(KERNEL, CACHE, PRIVATE_CACHE, USER, CACHE, KERNEL, USER, PageKind.OFFLINE),
        *(KERNEL, USER, PageKind.FREE, *[KERNEL] * 5),
    ]


@both
def test_free_pages_are_told_by_their_first(series: Series) -> None:
    pages = PageArray(series, 32)
    pages.free(8, 3)
    pages.free(16, 4)
    # what is left of what they were
    pages.put(9, flags=LRU[series], mapping=ANON)
    assert kinds(pages) == [KERNEL] * 8 + [PageKind.FREE] * 24


@both
@pytest.mark.parametrize("order", [11, 12, 63, 64, 200, 1 << 63])
def test_free_pages_of_an_order_that_no_kernel_has_are_kept(series: Series, order: int) -> None:
    pages = PageArray(series, 4)
    pages.free(0, order)
    assert kinds(pages) == [KERNEL] * 4


@both
@pytest.mark.parametrize("first", [0, 1 << 20])
def test_compound_pages(series: Series, first: int) -> None:
    pages = PageArray(series, 64, first)
    pages.compound(first + 4, 2, flags=LRU[series], mapping=FILE)
    pages.compound(first + 8, 3, flags=LRU[series] | PRIVATE[series], mapping=FILE)
    pages.compound(first + 16, 4, flags=LRU[series], mapping=ANON)
    pages.compound(first + 32, 2)
    pages.compound(first + 40, 3, mapping=FILE, huge=True)
    pages.compound(first + 48, 4, mapping=ANON, huge=True)
    assert kinds(pages) == [
        *[KERNEL] * 4,
        *[CACHE] * 4,
        *[PRIVATE_CACHE] * 8,
        *[USER] * 16,
        *[KERNEL] * 8,
        *[USER] * 24,
    ]


def _with_odd_tails(series: Series) -> PageArray:
    """Two compound pages whose tails look like pages of other kinds."""
    pages = PageArray(series, 16)
    pages.compound(0, 3)
    pages.compound(8, 3, flags=LRU[series], mapping=FILE)
    for pfn in (1, 9):
        pages.put(pfn, flags=LRU[series], mapping=ANON, tail=True)
        pages.put(pfn + 1, mapcount=OFFLINE[series], private=1, tail=True)
    return pages


@both
def test_fields_of_a_tail_mean_other_things(series: Series) -> None:
    pages = _with_odd_tails(series)
    pages.set_order(8, 3)
    assert kinds(pages) == [KERNEL] * 8 + [CACHE] * 8


@both
def test_tails_that_are_not_told_are_what_their_heads_are(series: Series) -> None:
    pages = _with_odd_tails(series)
    for pfn in (1, 9):
        pages.free(pfn + 3, 2)  # what a tail's fields may look like
        pages.set_order(pfn - 1, 3)
    lacks = {"OFFSET(page.compound_head)": ""}
    assert kinds(pages, **lacks) == [KERNEL] * 8 + [CACHE] * 8


@pytest.mark.parametrize("huge", [False, True])
def test_tails_by_a_mask_of_7_1(huge: bool) -> None:
    """compound_info of a tail is ~(bytes of all structures - 1) | 1 (set_compound_head).

    With vmemmap thinned out, all tails but those of the first page of structures are the same page.
    """
    pages = PageArray("6.12", 256)
    pages.compound(0, 7, flags=0 if huge else LRU["6.12"], mapping=FILE, huge=huge)
    pages.compound(128, 7)
    for first in (0, 128):
        mask = ~(SIZE * 128 - 1) | 1
        for pfn in range(first + 1, first + 128):
            pages.put(pfn, flags=LRU["6.12"], mapping=ANON, tail=True)  # it tells nothing
            pages.set_compound_info(pfn, mask)
        pages.set_order(first, 7)
    told = {"OSRELEASE": "7.1.0", "OFFSET(page.compound_head)": ""}
    kind = USER if huge else CACHE
    lacks = told | {"OFFSET(page.compound_info)": "8"}
    assert kinds(pages, **lacks) == [kind] * 128 + [KERNEL] * 128


@both
@pytest.mark.parametrize(("pfn", "order"), [(2, 2), (4, 3), (4, 23), (0, 23), (0, 63), (0, 200)])
def test_an_order_that_cannot_be_tells_for_one_page(series: Series, pfn: int, order: int) -> None:
    pages = PageArray(series, 8)
    pages.compound(pfn, 1, flags=LRU[series], mapping=FILE)
    pages.set_order(pfn, order)
    assert kinds(pages) == [CACHE if n == pfn else KERNEL for n in range(8)]


@both
def test_the_largest_page_is_of_16_gib(series: Series) -> None:
    pages = PageArray(series, 8)
    pages.compound(0, 3, flags=LRU[series], mapping=FILE)
    pages.set_order(0, 22)
    assert kinds(pages) == [CACHE] * 8
    assert read_structs(pages.structs, 0, layout_of(TOLD[series])).order[0] == 22


@both
def test_a_thinned_out_page_array(series: Series) -> None:
    """Its structures repeat, the head among them, every page of the array (hugetlb_vmemmap.c)."""
    pages = PageArray(series, 512)
    pages.compound(0, 9, mapping=FILE, huge=True)
    pages.data[:] = bytes(pages.data[: 64 * 64]) * 8 + bytes(64)
    assert kinds(pages) == [USER] * 512
    kept = PageArray(series, 512)
    kept.compound(0, 9)
    kept.data[:] = bytes(kept.data[: 64 * 64]) * 8 + bytes(64)
    assert kinds(kept) == [KERNEL] * 512


def test_types_of_6_12() -> None:
    pages = PageArray("6.12", 8)
    pages.put(0, mapcount=UNACCEPTED)
    pages.put(1, mapcount=SLAB | 0x1234, mapping=ANON)
    pages.put(2, mapcount=SLAB, flags=LRU["6.12"], mapping=FILE)
    pages.put(3, mapcount=0xF0001234)  # PGTY_buddy, and what its owner keeps in the other bits
    pages.put(4, mapcount=HUGETLB)  # no head
    pages.put(5, mapcount=0xF2000000)
    pages.put(6, mapcount=NOT_MAPPED - 1)
    assert kinds(pages) == [
        *(PageKind.FREE, KERNEL, CACHE, PageKind.FREE, KERNEL, KERNEL, KERNEL, KERNEL)
    ]


def test_slabs_of_6_1() -> None:
    pages = PageArray("6.1", 4)
    pages.put(0, flags=1 << 9, mapping=ANON)
    pages.put(1, flags=1 << 9, mapcount=OFFLINE["6.1"])
    pages.put(2, flags=1 << 9, mapcount=0xFFFFFF7F)
    assert kinds(pages) == [KERNEL] * 4


def test_poisoned_pages() -> None:
    pages = PageArray("6.12", 64)
    pages.put(0, flags=POISON)
    pages.put(1, flags=POISON | LRU["6.12"], mapping=ANON)
    pages.data[2 * 64 : 3 * 64] = b"\xff" * 64  # never set up (PAGE_POISON_PATTERN)
    # one page of a transparent huge page, and the first of another
    pages.compound(8, 3, flags=LRU["6.12"], mapping=ANON)
    pages.put(11, flags=POISON, tail=True)
    pages.compound(16, 3, flags=LRU["6.12"] | POISON, mapping=ANON)
    # hugetlbfs tells it of the head, and not which page it is
    pages.compound(32, 4, flags=POISON, mapping=ANON, huge=True)
    poison = PageKind.HWPOISON
    assert kinds(pages) == [
        *(poison, poison, *[KERNEL] * 6),
        *(USER, USER, USER, poison, USER, USER, USER, USER),
        *(poison, *[USER] * 7),
        *[KERNEL] * 8,
        *[poison] * 16,
        *[KERNEL] * 16,
    ]


@both
def test_where_nobody_tells_which_cache_is_private_all_is(series: Series) -> None:
    pages = PageArray(series, 2)
    pages.put(0, flags=LRU[series], mapping=FILE)
    assert kinds(pages, **{"NUMBER(PG_private)": ""}) == [PRIVATE_CACHE, KERNEL]


@both
def test_without_an_order_only_the_head_is_left_out(series: Series) -> None:
    pages = PageArray(series, 4)
    pages.compound(0, 2, flags=LRU[series], mapping=FILE)
    lacks = {"OFFSET(page.compound_order)": "", "OSRELEASE": "6.1.0"}
    assert kinds(pages, **lacks) == [CACHE, KERNEL, KERNEL, KERNEL]


def test_the_last_page_of_an_odd_number() -> None:
    pages = PageArray("6.12", 1, 7)
    pages.put(7, flags=LRU["6.12"], mapping=FILE)
    told = read_structs(pages.structs, 7, layout_of(TOLD["6.12"]))
    assert (told.kind.tolist(), told.order.tolist()) == ([CACHE], [0])
    assert spread(told).dtype == np.uint8


@both
def test_what_looks_like_a_span_within_another_is_a_part_of_it(series: Series) -> None:
    """The outermost counts, however many heads there are within it."""
    pages = PageArray(series, 16)
    pages.compound(0, 3, flags=LRU[series], mapping=ANON)
    pages.compound(2, 1, flags=LRU[series], mapping=FILE)
    pages.compound(4, 2, flags=LRU[series], mapping=FILE)
    pages.free(6, 1)
    pages.free(8, 3)
    pages.compound(12, 2, flags=LRU[series], mapping=ANON)
    assert kinds(pages) == [USER] * 8 + [PageKind.FREE] * 8
