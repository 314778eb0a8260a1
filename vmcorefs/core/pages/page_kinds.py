"""What pages were used for, from their ``struct page``: makedumpfile's tests on whole arrays.

The kind of a single page comes from its own structure. For several pages together, the first one's
structure speaks for all: a compound page's head, and the first of ``2**order`` free pages. Such a
*span* is aligned to its own size, as the buddy allocator makes them, so spans are either nested or
disjoint, and the outermost counts: inside a huge page whose page array was thinned out, structures
look like heads but are not (mm/hugetlb_vmemmap.c).
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.pages.dump_level import BoolArray, KindArray, PageKind
from vmcorefs.core.pages.struct_page import FieldTest, StructPage

Structs = npt.NDArray[np.uint8]
"""``struct page`` of pages in a row, raw, shape ``(n, StructPage.size)``, uint8."""

UInt64Array = npt.NDArray[np.uint64]


class PageStates(msgspec.Struct, frozen=True, eq=False):
    """What the structures of some pages in a row say, each by itself.

    Attributes:
        kind: Of the page, not counting poisoning; shape ``(n,)``.
        order: Of the span that the page is the first of; 0 for a single page, and for a page that
            is kept, as its span then is kept too. Shape ``(n,)``, uint8.
        poisoned: Whether the hardware found it to be bad, shape ``(n,)``.
    """

    kind: KindArray
    order: npt.NDArray[np.uint8]
    poisoned: BoolArray

    def within(self, kind: int) -> PageStates:
        """The same pages, where all of them are in a span of that kind."""
        return PageStates(np.full_like(self.kind, kind), np.zeros_like(self.order), self.poisoned)


def read_structs(structs: Structs, first: int, layout: StructPage) -> PageStates:
    """Look at the structures of some pages in a row, each by itself.

    Args:
        structs: The structures of the pages, and of one more after them; shape
            ``(n + 1, layout.size)``, C-contiguous.
        first: Number of the first page.
        layout: How they are read.
    """
    fields = _Fields(structs, layout)
    slab, tail = fields.test(layout.slab), fields.test(layout.tail)
    head = fields.test(layout.head) & ~tail
    huge = head & fields.test(layout.hugetlb)
    anon = fields.test(layout.anon) & ~slab
    cache = (fields.test(layout.lru) | fields.test(layout.swapcache)) & ~anon
    free_order = fields.value(layout.free_order)
    buddy = fields.test(layout.buddy) & ~slab & (free_order <= layout.max_free_order)
    poisoned = _are_poisoned(fields, layout)
    kind = np.full(fields.count, PageKind.KERNEL, dtype=np.uint8)
    # in the reverse order of makedumpfile's tests: each one overrules those before it
    kind[fields.test(layout.offline) & ~slab] = PageKind.OFFLINE
    kind[anon | huge] = PageKind.USER
    kind[cache] = PageKind.CACHE
    kind[cache & _are_private(fields, layout)] = PageKind.CACHE_PRIVATE
    kind[buddy | fields.test(layout.unaccepted)] = PageKind.FREE
    kind[tail] = PageKind.KERNEL
    kind[huge & poisoned] = PageKind.HWPOISON  # one page of it is, and it is not known which
    order = np.where(buddy, free_order, np.where(head, fields.value(layout.order), 0))
    return PageStates(kind, _find_orders(order, kind, first, layout), poisoned)


def spread(states: PageStates) -> KindArray:
    """Give every page of a span the kind of its first one.

    Args:
        states: Of ``n`` pages, ``n`` a power of two; the first one's number is a multiple of ``n``.

    Returns:
        The kind of each page, shape ``(n,)``; a span that goes past the last page is cut there.
    """
    kinds = states.kind.copy()
    last = (len(kinds) - 1).bit_length()
    order = np.minimum(states.order, last)
    spans = np.flatnonzero(order)
    for size in range(1, last + 1):  # larger spans later: they overrule those within them
        firsts = spans[order[spans] == size]
        if len(firsts):
            kinds.reshape(-1, 1 << size)[firsts >> size] = states.kind[firsts][:, None]
    kinds[states.poisoned] = PageKind.HWPOISON
    return kinds


def _find_orders(
    order: UInt64Array, kind: KindArray, first: int, layout: StructPage
) -> npt.NDArray[np.uint8]:
    """The orders of those that are first pages of a span, and 0 for all else."""
    # a head that is kept keeps its tails: that need not be told where they tell it themselves
    tells = kind != PageKind.KERNEL if layout.tail is not None else np.True_
    is_span = tells & (order <= layout.max_order)
    shift = np.where(is_span, order, 0).astype(np.int64)
    number = first + np.arange(len(shift), dtype=np.int64)
    aligned = number & ((1 << shift) - 1) == 0
    return np.where(aligned, shift, 0).astype(np.uint8)


def _are_private(fields: _Fields, layout: StructPage) -> BoolArray:
    """Whether each page is private, if it is cache; where that is not known, it is."""
    if layout.private is None:
        return np.ones(fields.count, dtype=np.bool_)
    return fields.test(layout.private)


def _are_poisoned(fields: _Fields, layout: StructPage) -> BoolArray:
    """Whether the hardware found each page to be bad.

    Structures that were never set up are all ones (``PagePoisoned``, page-flags.h).
    """
    if layout.hwpoison is None:
        return np.zeros(fields.count, dtype=np.bool_)
    flags = fields.raw(layout.hwpoison)
    set_up: BoolArray = flags != np.iinfo(flags.dtype).max
    return fields.test(layout.hwpoison) & set_up


class _Fields:
    """Columns of an array of structures.

    Attributes:
        count: Number of pages.
    """

    def __init__(self, structs: Structs, layout: StructPage) -> None:
        self.count = len(structs) - 1
        self._bytes = structs.reshape(-1)
        self._layout = layout
        self._columns: dict[tuple[int, int], npt.NDArray[np.unsignedinteger]] = {}

    def raw(self, test: FieldTest) -> npt.NDArray[np.unsignedinteger]:
        """The whole field of each page, as wide as it is stored."""
        key = test.at, test.size
        if key not in self._columns:
            size = self._layout.size
            column = np.ndarray(
                (self.count,),
                dtype=f"{self._layout.byte_order}u{test.size}",
                buffer=self._bytes.data,
                offset=test.at,
                strides=(size,),
            )
            self._columns[key] = column.astype(f"u{test.size}")
        return self._columns[key]

    def test(self, test: FieldTest | None) -> BoolArray:
        """The test's answer for each page; False where there is none."""
        if test is None:
            return np.zeros(self.count, dtype=np.bool_)
        raw = self.raw(test)
        found: BoolArray = (raw & raw.dtype.type(test.mask)) == test.value
        return found

    def value(self, test: FieldTest | None) -> UInt64Array:
        """The masked field of each page; 0 where there is none."""
        if test is None:
            return np.zeros(self.count, dtype=np.uint64)
        raw = self.raw(test)
        return (raw & raw.dtype.type(test.mask)).astype(np.uint64)
