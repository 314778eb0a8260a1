"""How ``struct page`` is read, for kernels from 2.6 to 7, by VMCOREINFO and by BTF."""

from __future__ import annotations

import pytest

from tests.builders.btf import ENUM, INT, Writer
from tests.builders.pages import TOLD, layout_of
from tests.matching import exactly
from vmcorefs.core.pages.struct_page import FieldTest
from vmcorefs.errors import FormatError

SMALL = {
    "SIZE(page)": "64",
    "OFFSET(page.flags)": "0",
    "OFFSET(page.mapping)": "24",
    "OFFSET(page._mapcount)": "48",
    "OFFSET(page.private)": "40",
}
FLAGS = {"NUMBER(PG_lru)": "5", "NUMBER(PG_private)": "11", "NUMBER(PG_head_mask)": "16384"}


def write_btf(*enumerators: tuple[str, int], signed: int = 0, tail: str = "compound_head") -> bytes:
    btf = Writer()
    btf.add(INT, "long", 8, [64])
    members = [("flags", 1, 0), (tail, 1, 64), ("mapping", 1, 24 * 8), ("private", 1, 40 * 8)]
    btf.add_struct("page", 64, [*members, ("_mapcount", 1, 48 * 8)])
    values = [word for name, value in enumerators for word in (btf.name(name), value % 2**32)]
    btf.add(ENUM, "pageflags", 4, values, len(enumerators), signed)
    return btf.finish()


def test_6_1() -> None:
    layout = layout_of(TOLD["6.1"])
    assert (layout.size, layout.page_size, layout.unknown) == (64, 4096, ())
    assert layout.buddy == FieldTest(48, 4, 0x80000080, 0x80000000)
    assert layout.offline == FieldTest(48, 4, 0x80000100, 0x80000000)
    assert layout.hugetlb == FieldTest(64 + 16, 1, 0xFF, 2)
    assert layout.order == FieldTest(64 + 17, 1, 0xFF, 0)
    assert layout.slab == FieldTest(0, 8, 1 << 9, 1 << 9)
    assert layout.swapcache == FieldTest(0, 8, 1 << 10 | 1 << 19, 1 << 10 | 1 << 19)
    assert (layout.hwpoison, layout.unaccepted) == (None, None)
    assert (layout.max_order, layout.max_free_order) == (22, 10)


def test_6_12() -> None:
    layout = layout_of(TOLD["6.12"])
    assert layout.buddy == FieldTest(48, 4, 0xFF000000, 0xF0000000)
    assert layout.hugetlb == FieldTest(48, 4, 0xFF000000, 0xF4000000)
    assert layout.slab == FieldTest(48, 4, 0xFF000000, 0xF5000000)
    assert layout.unaccepted == FieldTest(48, 4, 0xFF000000, 0xF9000000)
    assert layout.order == FieldTest(64, 1, 0xFF, 0)
    assert layout.hwpoison == FieldTest(0, 8, 1 << 20, 1 << 20)
    assert layout.tail == FieldTest(8, 8, 1, 1)
    assert layout.unknown == ()


def test_7_says_compound_info() -> None:
    told = TOLD["6.12"] | {"OFFSET(page.compound_head)": "", "OFFSET(page.compound_info)": "8"}
    assert layout_of(told).tail == FieldTest(8, 8, 1, 1)


def test_6_11_has_page_types_in_the_upper_bits() -> None:
    """PG_buddy is 0x40000000 there, and PAGE_TYPE_BASE 0x80000000."""
    told = {"OSRELEASE": "6.11.0", "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": str(~0x40000000)}
    assert layout_of(TOLD["6.12"] | told).buddy == FieldTest(48, 4, 0xC0000000, 0x80000000)


def test_6_7_has_a_flag_for_hugetlbfs_behind_the_head() -> None:
    told = TOLD["6.12"] | {
        "OSRELEASE": "6.7.0",
        "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": "",
        "NUMBER(PG_hugetlb)": "8",
    }
    layout = layout_of(told)
    assert layout.hugetlb == FieldTest(64, 8, 1 << 8, 1 << 8)
    assert layout.order == FieldTest(64, 1, 0xFF, 0)


def test_6_4_has_them_in_a_folio() -> None:
    told = TOLD["6.1"] | {
        "OSRELEASE": "6.4.0",
        "OFFSET(page.compound_dtor)": "",
        "OFFSET(page.compound_order)": "",
        "OFFSET(folio._folio_dtor)": "80",
        "OFFSET(folio._folio_order)": "81",
    }
    layout = layout_of(told)
    assert layout.hugetlb == FieldTest(80, 1, 0xFF, 2)
    assert layout.order == FieldTest(81, 1, 0xFF, 0)


def test_4_9_has_a_longer_order() -> None:
    told = TOLD["6.1"] | {
        "OSRELEASE": "4.9.0",
        "OFFSET(page.compound_dtor)": "16",
        "OFFSET(page.compound_order)": "20",
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": "-128",
    }
    layout = layout_of(told)
    assert layout.order == FieldTest(64 + 20, 2, 0xFFFF, 0)
    assert layout.hugetlb == FieldTest(64 + 16, 2, 0xFFFF, 2)
    assert layout.buddy == FieldTest(48, 4, 0xFFFFFFFF, 0xFFFFFF80)


def test_3_10_keeps_order_and_destructor_in_lru() -> None:
    told = (
        SMALL
        | FLAGS
        | {
            "OSRELEASE": "3.10.0",
            "OFFSET(page.lru)": "32",
            "OFFSET(list_head.next)": "0",
            "OFFSET(list_head.prev)": "8",
            "SYMBOL(free_huge_page)": "ffffffff81180000",
        }
    )
    layout = layout_of(told)
    assert layout.order == FieldTest(64 + 40, 2, 0xFFFF, 0)
    assert layout.hugetlb == FieldTest(64 + 32, 8, 2**64 - 1, 0xFFFFFFFF81180000)
    assert layout.buddy == FieldTest(48, 4, 0xFFFFFFFF, 0xFFFFFF80)
    assert layout.unknown == ()


def test_big_endian() -> None:
    layout = layout_of(TOLD["6.12"], byte_order=">")
    assert layout.order == FieldTest(64 + 7, 1, 0xFF, 0)


def test_64_kib_pages() -> None:
    assert layout_of(TOLD["6.12"], page_size=1 << 16).max_order == 18


def test_what_nobody_tells_is_said() -> None:
    expected = [
        "which pages are compound: all but the first of each are kept",
        "which pages are tails: each is taken to be what its head is",
        "which pages are cache: they are kept",
        "which cache pages are private: all are taken to be",
        "which pages are free: they are kept",
        "the size of compound pages: all but the first page of each are kept",
    ]
    unknown = layout_of(SMALL | {"OSRELEASE": "5.10.0"}).unknown
    assert unknown == tuple(f"neither VMCOREINFO nor BTF says {text}" for text in expected)


def test_btf_tells_what_vmcoreinfo_does_not() -> None:
    flags = {"lru": 5, "private": 14, "head": 6, "hwpoison": 20, "swapcache": 10, "swapbacked": 17}
    types = {"buddy": 0xF0, "offline": 0xF1, "slab": 0xF5, "hugetlb": 0xF4, "unaccepted": 0xF9}
    btf = write_btf(
        *((f"PG_{name}", bit) for name, bit in flags.items()),
        *((f"PGTY_{name}", upper) for name, upper in types.items()),
        tail="compound_info",
    )
    layout = layout_of({"OSRELEASE": "7.1.0", "SIZE(page)": "64"}, btf=btf)
    assert layout.lru == FieldTest(0, 8, 1 << 5, 1 << 5)
    assert layout.private == FieldTest(0, 8, 1 << 14, 1 << 14)
    assert layout.head == FieldTest(0, 8, 1 << 6, 1 << 6)
    assert layout.anon == FieldTest(24, 8, 1, 1)
    assert layout.buddy == FieldTest(48, 4, 0xFF000000, 0xF0000000)
    assert layout.free_order == FieldTest(40, 8, 2**64 - 1, 2**64 - 1)
    assert layout.unknown == ()
    # what a kernel may lack: nobody would miss it
    assert layout.tail == FieldTest(8, 8, 1, 1)
    assert layout.hwpoison == FieldTest(0, 8, 1 << 20, 1 << 20)
    assert layout.swapcache == FieldTest(0, 8, 1 << 10 | 1 << 17, 1 << 10 | 1 << 17)
    types_of = (layout.slab, layout.offline, layout.hugetlb, layout.unaccepted)
    assert [test and test.value >> 24 for test in types_of] == [0xF5, 0xF1, 0xF4, 0xF9]


def test_btf_is_not_read_for_what_a_kernel_may_lack() -> None:
    told = TOLD["6.12"] | dict.fromkeys(
        ("NUMBER(PG_hwpoison)", "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)"), ""
    )
    layout = layout_of(told, btf=b"damaged")
    assert (layout.hwpoison, layout.unaccepted, layout.unknown) == (None, None, ())


@pytest.mark.parametrize(
    ("key", "lost", "consequence"),
    [
        ("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", "anon", "slabs: anonymous pages are kept"),
        ("OFFSET(page.compound_head)", "tail", "tails: each is taken to be what its head is"),
    ],
)
def test_what_a_new_kernel_does_not_tell_keeps_pages(key: str, lost: str, consequence: str) -> None:
    layout = layout_of(TOLD["6.12"] | {key: ""})
    assert getattr(layout, lost) is None
    assert layout.unknown == (f"neither VMCOREINFO nor BTF says which pages are {consequence}",)


def test_where_free_pages_end_must_be_told() -> None:
    layout = layout_of(TOLD["6.12"] | {"OFFSET(page.private)": ""})
    assert layout.buddy is None
    assert layout.unknown == (
        "neither VMCOREINFO nor BTF says how many pages are free together: they are kept",
    )


def test_without_swapbacked_the_flag_of_the_swap_cache_is_another() -> None:
    """PG_owner_priv_1: PG_pinned, of a page table of Xen's (include/linux/page-flags.h)."""
    assert layout_of(TOLD["6.12"] | {"NUMBER(PG_swapbacked)": ""}).swapcache is None
    told = TOLD["6.1"] | {"OSRELEASE": "4.9.0", "NUMBER(PG_swapbacked)": ""}
    assert layout_of(told).swapcache == FieldTest(0, 8, 1 << 10, 1 << 10)


def test_page_types_of_6_11_in_btf() -> None:
    btf = write_btf(("PG_buddy", 0x40000000), ("PG_slab", 0x08000000))
    layout = layout_of(SMALL | FLAGS | {"OSRELEASE": "6.11.0"}, btf=btf)
    assert layout.buddy == FieldTest(48, 4, 0xC0000000, 0x80000000)
    assert layout.slab == FieldTest(48, 4, 0x88000000, 0x80000000)


def test_a_flag_is_no_page_type() -> None:
    btf = write_btf(("PG_buddy", 19))
    assert layout_of(SMALL | FLAGS | {"OSRELEASE": "5.10.0"}, btf=btf).buddy is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SIZE(page)", "4096", "VMCOREINFO: SIZE(page) is 4096"),
        ("SIZE(page)", "63", "VMCOREINFO: SIZE(page) is 63"),
        ("OFFSET(page.flags)", "57", "struct page: 8 bytes at 57, but it has 64"),
        ("OFFSET(page._mapcount)", "61", "struct page: 4 bytes at 61, but it has 64"),
        ("OFFSET(page.compound_order)", "64", "struct page: 1 bytes at 64, but it has 64"),
        ("NUMBER(PG_lru)", "64", "struct page: no bit 64 in flags of 64 bits"),
        ("NUMBER(PG_lru)", "-1", "struct page: no bit -1 in flags of 64 bits"),
        (
            "OFFSET(page.flags)",
            "",
            "struct page: neither VMCOREINFO nor BTF says where its flags are",
        ),
    ],
)
def test_what_cannot_be_true(key: str, value: str, message: str) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        layout_of(TOLD["6.1"] | {key: value})
