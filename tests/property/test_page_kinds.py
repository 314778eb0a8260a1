"""Page kinds against makedumpfile's own way: a loop over all pages, told a dump level."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from hypothesis import given, strategies as st

from tests.builders.pages import (
    ANON,
    FILE,
    FREE,
    HEAD,
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
    PageArray,
    layout_of,
)
from vmcorefs.core.pages.dump_level import PageKind, left_out
from vmcorefs.core.pages.page_kinds import read_structs, spread

SERIES: Final = "6.12"
LAYOUT = layout_of(TOLD[SERIES])
ORDER = 6
LEVELS = st.integers(0, 31)

flags = st.sets(
    st.sampled_from([LRU[SERIES], PRIVATE[SERIES], SWAPCACHE[SERIES], 1 << 10, 1 << 3])
).map(sum)
mappings = st.sampled_from([0, FILE, ANON, ANON + 2])


@st.composite
def sound(draw: st.DrawFn) -> PageArray:
    """Pages as a kernel has them: one span behind the other, each aligned to its size."""
    pages = PageArray(SERIES, 1 << ORDER)
    pfn = 0
    while pfn < pages.count:
        most = min(ORDER, (pfn & -pfn).bit_length() - 1) if pfn else ORDER
        order = draw(st.integers(0, most))
        kind = draw(st.sampled_from(["free", "compound", "huge", "alone", "slab", "offline"]))
        if kind == "free":
            pages.free(pfn, order)
        elif kind in ("compound", "huge") and order:
            huge = kind == "huge"
            pages.compound(
                pfn, order, flags=0 if huge else draw(flags), mapping=draw(mappings), huge=huge
            )
        else:
            order = 0
            mapcount = {"slab": SLAB, "offline": OFFLINE[SERIES]}.get(kind, draw(mapcounts))
            pages.put(
                pfn,
                flags=draw(flags) if kind == "alone" else 0,
                mapping=draw(mappings) if kind == "alone" else 0,
                mapcount=mapcount,
            )
            if draw(st.integers(0, 9)) == 0:
                pages.put(pfn, flags=POISON)
        pfn += 1 << order
    return pages


mapcounts = st.sampled_from([NOT_MAPPED, 0, 1])


def makedumpfile_leaves_out(pages: PageArray, level: int) -> list[bool]:
    """``__exclude_unnecessary_pages`` of makedumpfile 1.7.8, for 6.12."""
    out = [False] * pages.count
    pfn = 0
    while pfn < pages.count:
        flag, head, mapping, private, mapcount = _fields(pages, pfn)
        is_head = flag & HEAD[SERIES]
        order = pages.data[(pfn + 1) * SIZE] if is_head else 0
        if order >= 64 or pfn % (1 << order):
            order = 0
        anon = mapping & 1 and mapcount != SLAB
        cache = flag & LRU[SERIES] or flag & SWAPCACHE[SERIES] == SWAPCACHE[SERIES]
        count = 1 << order
        if head & 1:
            excluded = False
        elif level & 16 and mapcount == FREE[SERIES]:
            excluded, count = private < 11, 1 << private
        elif cache and not anon and level & (4 if flag & PRIVATE[SERIES] else 6):
            excluded = True
        elif anon or (is_head and mapcount == HUGETLB):
            excluded = bool(level & 8 or flag & POISON)
        else:
            excluded = bool(flag & POISON or mapcount == OFFLINE[SERIES])
        if excluded:
            out[pfn : pfn + count] = [True] * len(out[pfn : pfn + count])
        pfn += count if excluded else 1
    return out


def _fields(pages: PageArray, pfn: int) -> tuple[int, int, int, int, int]:
    flag, head, _, mapping, _, private, mapcount, _ = struct.unpack_from(
        "<QQQQQQII", pages.data, pfn * SIZE
    )
    return flag, head, mapping, private, mapcount


@given(sound(), LEVELS)
def test_what_makedumpfile_leaves_out(pages: PageArray, level: int) -> None:
    kinds = spread(read_structs(pages.structs, 0, LAYOUT))
    assert left_out(level)[kinds].tolist() == makedumpfile_leaves_out(pages, level)


@given(st.binary(min_size=SIZE, max_size=SIZE * 33), st.integers(0, 1 << 40))
def test_whatever_the_array_says(data: bytes, first: int) -> None:
    """No page gets a kind that neither it nor a page before it in its span has."""
    count = 1 << (len(data) // SIZE).bit_length() - 1
    first -= first % count
    structs = np.zeros((count + 1, SIZE), dtype=np.uint8)
    structs.reshape(-1)[: count * SIZE] = np.frombuffer(data, dtype=np.uint8)[: count * SIZE]
    told = read_structs(structs, first, LAYOUT)
    kinds = spread(told)
    assert len(kinds) == count
    assert kinds.max() <= max(PageKind)
    for page, kind in enumerate(kinds.tolist()):
        firsts = {first + page & -1 << order for order in range(23)}
        own = [pfn - first for pfn in firsts if pfn >= first]
        assert kind == PageKind.HWPOISON or kind in told.kind[own].tolist()
    assert (kinds[told.poisoned] == PageKind.HWPOISON).all()


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)), max_size=20), st.data())
def test_hostile_orders(orders: list[tuple[int, int]], data: st.DataObject) -> None:
    """Of heads anywhere, of any order, the outermost that is aligned counts."""
    pages = PageArray(SERIES, 64)
    for pfn, order in orders:
        mapping = data.draw(st.sampled_from([FILE, ANON]))
        pages.put(pfn, flags=HEAD[SERIES] | LRU[SERIES], mapping=mapping)
        pages.data[(pfn + 1) * SIZE] = order
    told = read_structs(pages.structs, 0, LAYOUT)
    kinds = spread(told)
    for page in range(64):
        spans = [
            (pfn, int(told.order[pfn]))
            for pfn in range(64)
            if told.order[pfn] and pfn <= page < pfn + (1 << int(told.order[pfn]))
        ]
        outermost = max(spans, key=lambda span: span[1], default=(page, 0))[0]
        assert kinds[page] == told.kind[outermost]
    for pfn, order in enumerate(told.order.tolist()):
        assert order <= LAYOUT.max_order
        assert pfn % (1 << order) == 0
