"""How to read a ``struct page``: by VMCOREINFO, or else by BTF.

What neither of them tells keeps pages, and is said. BTF takes long to read: it is read when
something is not told that every kernel has, and is then asked for what a kernel may lack, too.

VMCOREINFO has had the keys that makedumpfile needs since 2.6.24 (kernel/vmcore_info.c), and each
rework of ``struct page`` added some. makedumpfile defines their meaning (makedumpfile.c,
``__exclude_unnecessary_pages``). A *test* answers one question by some bits of one field.

* A page type is in ``_mapcount`` of a page that is not mapped: before 4.18 the one value; then a
  bit that is zero in a negative number; since 6.12 the upper byte (include/linux/page-flags.h).
* A tail has bit 0 of ``compound_head``, the head's address, set. Since 7.1 that is
  ``compound_info``, where a mask may stand for the address (``compound_info_has_mask``); bit 0 is
  what it was, and nothing here follows the rest.
* Order and kind of a compound page are in the structure after its head's: as fields of their own,
  and since 6.6 the order as the low byte of that structure's flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property

import msgspec

from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.structures.types.btf import read_enumerators, read_structs
from vmcorefs.errors import FormatError

ReadBtf = Callable[[], bytes | None]
"""Returns the kernel's BTF, or None if it has none; called only if VMCOREINFO is not enough."""

MAX_STRUCT_PAGE = 1024
"""No kernel's ``struct page`` is larger, in bytes: with all debugging it has about 200."""

_MAX_FREE_ORDERS = 64
_MAX_GIGANTIC = 1 << 34  # 16 GiB: MAX_FOLIO_ORDER (include/linux/mm.h)
_MAPCOUNT_SIZE = 4
_32_BITS = (1 << 32) - 1
_UPPER_BYTE = 0xFF << 24
_TYPED = 1 << 31  # every page type makes _mapcount negative
_FIRST_TYPE = 0x80  # PG_buddy was the lowest bit that was ever a page type
_BUDDY_BEFORE_4_18 = -128  # PAGE_BUDDY_MAPCOUNT_VALUE (include/linux/mm.h)

_FLAGS = ("lru", "private", "head", "swapcache", "swapbacked", "hwpoison")
_TYPES = ("buddy", "slab", "hugetlb", "offline", "unaccepted")

_UNKNOWN = "neither VMCOREINFO nor BTF says"


class FieldTest(msgspec.Struct, frozen=True):
    """Whether ``field & mask == value``.

    Attributes:
        at: Where the field is in the structure, in bytes; beyond the structure's size, it is in the
            next one.
        size: Bytes in the field: 1, 2, 4 or 8.
        mask: Which bits count.
        value: What they must be.
    """

    at: int
    size: int
    mask: int
    value: int


class StructPage(msgspec.Struct, frozen=True):
    """How to read one kernel's ``struct page``; None for what it does not have, or is not known.

    Attributes:
        size: Bytes in the structure.
        page_size: Bytes in a page.
        byte_order: ``<`` or ``>``.
        head: Head of a compound page.
        tail: Any other page of a compound page; if it is None, each is what the first one is.
        lru: On a list of pages that can be reclaimed.
        swapcache: In the swap cache.
        private: ``page->private`` is in use.
        anon: ``mapping`` is not a file's.
        slab: Holds the kernel's objects, and some fields mean other things.
        buddy: Free, the first of ``2**free_order`` pages.
        unaccepted: Free, and not yet accepted by this guest.
        offline: Taken from the kernel.
        hugetlb: A huge page of hugetlbfs, tested on its head.
        hwpoison: The hardware found it to be bad.
        order: Of a compound page, read from its head: ``field & mask``.
        free_order: Of free pages: ``field & mask``.
        max_order: No compound page has a larger order.
        max_free_order: No free pages have a larger order.
        unknown: What is not known, and the consequence; a sentence each.
    """

    size: int
    page_size: int
    byte_order: ByteOrder
    head: FieldTest | None
    tail: FieldTest | None
    lru: FieldTest | None
    swapcache: FieldTest | None
    private: FieldTest | None
    anon: FieldTest | None
    slab: FieldTest | None
    buddy: FieldTest | None
    unaccepted: FieldTest | None
    offline: FieldTest | None
    hugetlb: FieldTest | None
    hwpoison: FieldTest | None
    order: FieldTest | None
    free_order: FieldTest | None
    max_order: int
    max_free_order: int
    unknown: tuple[str, ...]


def read_struct_page(
    vmcoreinfo: Vmcoreinfo, byte_order: ByteOrder, word_size: int, read_btf: ReadBtf
) -> StructPage:
    """Work out how to read this kernel's ``struct page``.

    Args:
        vmcoreinfo: The kernel's.
        byte_order: Of the machine.
        word_size: Bytes in a ``long``: 4 or 8.
        read_btf: Returns the kernel's BTF.

    Raises:
        FormatError: if even the structure's size or the place of its flags is not known, or
            VMCOREINFO has values that cannot be true.
        VmcorefsError: whatever ``read_btf`` raises.
    """
    facts = _Facts(vmcoreinfo, byte_order, word_size, read_btf)
    if facts.offset("page.flags", "where its flags are") is None:
        raise FormatError(f"struct page: {_UNKNOWN} where its flags are")
    # in front: what every kernel has, for which BTF is read
    free_order = facts.bits("private", -1, "how many pages are free together: they are kept")
    head, tail, slab = facts.head(), facts.tail(), facts.slab()
    return StructPage(
        size=facts.size,
        page_size=vmcoreinfo.page_size,
        byte_order=byte_order,
        head=head,
        tail=tail,
        lru=facts.flag("lru", "which pages are cache: they are kept"),
        swapcache=facts.swapcache(),
        private=facts.flag("private", "which cache pages are private: all are taken to be"),
        anon=facts.anon() if slab is not None or not facts.has_slab_type else None,
        slab=slab,
        buddy=facts.buddy() if free_order is not None else None,
        unaccepted=facts.page_type("unaccepted"),
        offline=facts.page_type("offline"),
        hugetlb=facts.hugetlb(),
        hwpoison=facts.flag("hwpoison"),
        order=facts.order(),
        free_order=free_order,
        max_order=(_MAX_GIGANTIC // vmcoreinfo.page_size).bit_length() - 1,
        max_free_order=facts.free_orders() - 1,
        unknown=tuple(facts.unknown),
    )


class _Facts:
    """The facts about ``struct page``: from VMCOREINFO, and if ``needed`` is set also from BTF.

    Attributes:
        size: Bytes in the structure.
        has_slab_type: Whether slabs have a page type (since 6.10), and no flag.
        unknown: A sentence for each fact that was needed and is not known.
    """

    def __init__(
        self, vmcoreinfo: Vmcoreinfo, byte_order: ByteOrder, word_size: int, read_btf: ReadBtf
    ) -> None:
        self._vmcoreinfo = vmcoreinfo
        self._byte_order = byte_order
        self._word_size = word_size
        self._read_btf = read_btf
        self._release = vmcoreinfo.release_version or (0, 0)
        self.has_slab_type = self._release >= (6, 10)
        self.unknown: list[str] = []
        self.size = vmcoreinfo.size("page")
        if self.size > MAX_STRUCT_PAGE or self.size % word_size:
            raise FormatError(f"VMCOREINFO: SIZE(page) is {self.size}")

    @cached_property
    def _btf(self) -> bytes | None:
        return self._read_btf()

    def _asks(self, needed: str) -> bool:
        """Whether BTF is asked: for what is needed, and for all else if it has been read."""
        return bool(needed) or "_btf" in vars(self)

    @cached_property
    def _members(self) -> Mapping[str, int]:
        with suppress(FormatError):  # one that is damaged, or has no such structure, tells nothing
            if self._btf is not None:
                return read_structs(self._btf, self._byte_order, ["page"])["page"].offsets
        return {}

    @cached_property
    def _enumerators(self) -> Mapping[str, int]:
        names = [f"PG_{name}" for name in (*_FLAGS, *_TYPES)] + [f"PGTY_{name}" for name in _TYPES]
        with suppress(FormatError):
            if self._btf is not None:
                return read_enumerators(self._btf, self._byte_order, names)
        return {}

    def offset(self, name: str, needed: str = "") -> int | None:
        """OFFSET(name), or the offset of that member of ``struct page`` in BTF."""
        if f"OFFSET({name})" in self._vmcoreinfo.values:
            return self._vmcoreinfo.offset(name)
        return self._members.get(name.removeprefix("page.")) if self._asks(needed) else None

    def bits(self, member: str, mask: int, needed: str = "") -> FieldTest | None:
        """A test for one bit of a member that is a word; with more bits in ``mask``, the field."""
        at = self.offset(f"page.{member}", needed)
        return self._need(self._field(at, self._word_size, mask, mask), needed)

    def flag(self, name: str, needed: str = "") -> FieldTest | None:
        """A test for a page flag."""
        bit = self._number(f"PG_{name}")
        if bit is None and self._asks(needed):
            bit = self._enumerators.get(f"PG_{name}")
            # of 6.10 and 6.11, some are page types
            bit = None if bit is not None and bit >= 8 * self._word_size else bit
        return self._need(self._flag_at(bit), needed)

    def head(self) -> FieldTest | None:
        """A test for the head of a compound page."""
        mask = self._number("PG_head_mask")
        test = self.bits("flags", mask) if mask else self._flag_at(self._enumerators.get("PG_head"))
        return self._need(test, "which pages are compound: all but the first of each are kept")

    def tail(self) -> FieldTest | None:
        """A test for the tails of compound pages; before 4.4, they have nothing of the kind."""
        names = ("compound_head", "compound_info")
        told = [name for name in names if f"OFFSET(page.{name})" in self._vmcoreinfo.values]
        needed = "which pages are tails: each is taken to be what its head is"
        if self._release < (4, 4):
            needed = ""
        places = (self.offset(f"page.{name}", needed) for name in told or names)
        at = next((at for at in places if at is not None), None)
        return self._need(self._field(at, self._word_size, 1, 1), needed)

    def anon(self) -> FieldTest | None:
        """A test for anonymous pages."""
        return self.bits("mapping", 1, "which pages are anonymous: they are kept")

    def swapcache(self) -> FieldTest | None:
        """A test for the swap cache; since 4.10 its flag counts only with PG_swapbacked.

        Without that, it is PG_owner_priv_1: page tables of a guest of Xen have it.
        """
        swapcache, swapbacked = self.flag("swapcache"), self.flag("swapbacked")
        if swapcache is None or swapbacked is None:
            return swapcache if self._release < (4, 10) else None
        both = swapcache.mask | swapbacked.mask
        return FieldTest(swapcache.at, swapcache.size, both, both)

    def page_type(self, name: str, needed: str = "") -> FieldTest | None:
        """A test for a page type: ``_mapcount`` is then ``PAGE_*_MAPCOUNT_VALUE``."""
        value = self._number(f"PAGE_{name.upper()}_MAPCOUNT_VALUE")
        if value is None and self._asks(needed):
            value = self._type_from_btf(name)
        at = self.offset("page._mapcount", needed)
        if value is None or at is None:
            return self._need(None, needed)
        value &= _32_BITS
        bit = ~value & _32_BITS
        if not value & ~_UPPER_BYTE:
            return self._field(at, _MAPCOUNT_SIZE, _UPPER_BYTE, value)
        if bit & (bit - 1) == 0 and bit >= _FIRST_TYPE:
            return self._field(at, _MAPCOUNT_SIZE, _TYPED | bit, _TYPED)
        return self._field(at, _MAPCOUNT_SIZE, _32_BITS, value)

    def buddy(self) -> FieldTest | None:
        """A test for free pages."""
        needed = "which pages are free: they are kept"
        known = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)" in self._vmcoreinfo.values
        at = self.offset("page._mapcount")
        if not known and at is not None and (3, 0) <= self._release < (4, 18):
            return self._field(at, _MAPCOUNT_SIZE, _32_BITS, _BUDDY_BEFORE_4_18)
        return self.page_type("buddy", needed)

    def slab(self) -> FieldTest | None:
        """A test for slabs: a page type since 6.10, a flag before."""
        told = self.page_type("slab") or self.flag("slab")
        if told is not None or not self.has_slab_type:
            return told
        return self.page_type("slab", "which pages are slabs: anonymous pages are kept")

    def hugetlb(self) -> FieldTest | None:
        """A test for hugetlbfs's pages; None if the kernel has no hugetlbfs."""
        test = self.page_type("hugetlb")  # since 6.9
        bit = self._number("PG_hugetlb")  # 6.6 to 6.8: a flag of the structure after the head's
        if test is None and bit is not None:
            test = self._behind(self._flag_at(bit))
        return test or self._destructor()

    def order(self) -> FieldTest | None:
        """Where the order of a compound page is."""
        at, size = self.offset("page.compound_order"), 1
        if at is None and (at := self.offset("folio._folio_order")) is not None:
            at -= self.size  # 6.3 to 6.5: the folio's second page
        if at is not None and self._release < (4, 16):
            size = 2
        if at is None and self._release < (4, 4):
            at, size = self._list_member("prev"), 2  # lru.prev held it
        if at is None and self._release >= (6, 6):
            at = self.offset("page.flags")
            if at is not None and self._byte_order == ">":
                at += self._word_size - 1
        return self._need(
            self._behind(self._field(at, size, -1, 0)),
            "the size of compound pages: all but the first page of each are kept",
        )

    def free_orders(self) -> int:
        """How many orders free pages come in: MAX_ORDER + 1, or NR_PAGE_ORDERS."""
        if "LENGTH(zone.free_area)" not in self._vmcoreinfo.values:
            return _MAX_FREE_ORDERS
        return min(self._vmcoreinfo.length("zone.free_area"), _MAX_FREE_ORDERS)

    def _number(self, name: str) -> int | None:
        if f"NUMBER({name})" not in self._vmcoreinfo.values:
            return None
        return self._vmcoreinfo.number(name)

    def _type_from_btf(self, name: str) -> int | None:
        upper = self._enumerators.get(f"PGTY_{name}")  # since 6.12
        if upper is not None:
            return (upper & 0xFF) << 24
        # 6.10 and 6.11; before, types were not enumerators
        bit = self._enumerators.get(f"PG_{name}")
        return ~bit if bit is not None and bit >= _FIRST_TYPE else None

    def _destructor(self) -> FieldTest | None:
        """The destructor of a huge page: its number since 4.4, its address before."""
        number, at = self._number("HUGETLB_PAGE_DTOR"), self.offset("page.compound_dtor")
        if at is None and (at := self.offset("folio._folio_dtor")) is not None:
            at -= self.size
        if number is not None:
            size = 1 if self._release >= (4, 16) else 2
            return self._behind(self._field(at, size, -1, number))
        if "SYMBOL(free_huge_page)" not in self._vmcoreinfo.values:
            return None
        at = self._list_member("next") if at is None else at
        address = self._vmcoreinfo.symbol("free_huge_page")
        return self._behind(self._field(at, self._word_size, -1, address))

    def _list_member(self, member: str) -> int | None:
        lru, inside = self.offset("page.lru"), self.offset(f"list_head.{member}")
        return lru + inside if lru is not None and inside is not None else None

    def _need(self, test: FieldTest | None, needed: str) -> FieldTest | None:
        """Return the test; if there is none and it is needed, record that."""
        if test is None and needed:
            self.unknown.append(f"{_UNKNOWN} {needed}")
        return test

    def _flag_at(self, bit: int | None) -> FieldTest | None:
        if bit is None:
            return None
        if not 0 <= bit < 8 * self._word_size:
            raise FormatError(f"struct page: no bit {bit} in flags of {8 * self._word_size} bits")
        return self.bits("flags", 1 << bit)

    def _field(self, at: int | None, size: int, mask: int, value: int) -> FieldTest | None:
        """A test of a field of the structure; bits of ``mask`` beyond the field are ignored."""
        if at is None:
            return None
        if not 0 <= at <= self.size - size:
            raise FormatError(f"struct page: {size} bytes at {at}, but it has {self.size}")
        full = (1 << 8 * size) - 1
        return FieldTest(at, size, mask & full, value & full)

    def _behind(self, test: FieldTest | None) -> FieldTest | None:
        """The same test applied to the next structure."""
        if test is None:
            return None
        return FieldTest(test.at + self.size, test.size, test.mask, test.value)
