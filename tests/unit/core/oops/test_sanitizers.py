"""Reports of KASAN, KMSAN, KCSAN, KFENCE, kmemleak and UBSAN."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import STACK, title_of
from vmcorefs.core.oops.faults import Fault


def kasan(kind: str, access: str = "Read of size 8 at addr ffff888012345678 by task a/7") -> str:
    return f"BUG: KASAN: {kind} in memcpy+0x12/0x34\n{access}\n{STACK}"


@pytest.mark.parametrize(
    ("kind", "access", "fault"),
    [
        ("slab-use-after-free", "Read", Fault.KASAN_FREED_READ),
        ("use-after-free", "Write", Fault.KASAN_FREED_WRITE),
        ("slab-out-of-bounds", "Read", Fault.KASAN_READ),
        ("vmalloc-out-of-bounds", "Write", Fault.KASAN_WRITE),
        ("null-ptr-deref", "Read", Fault.KASAN_NULL_READ),
        ("null-ptr-deref", "Write", Fault.KASAN_NULL_WRITE),
        ("some-new-kind", "Read", Fault.KASAN_UNKNOWN),
    ],
)
def test_kasan(kind: str, access: str, fault: Fault) -> None:
    found = title_of(kasan(kind, f"{access} of size 8 at addr ffff888012345678 by task a/7"))
    assert found.title == f"KASAN: {kind} {access} in frob_write"
    assert found.alternatives == ("bad-access in frob_write",)
    assert found.fault == fault
    assert found.function == "frob_write"
    assert not found.mangled


def test_kasan_names_who_the_head_names_if_they_may_be_to_blame() -> None:
    text = kasan("use-after-free").replace("memcpy", "frob_read")
    assert title_of(text).title == "KASAN: use-after-free Read in frob_read"


@pytest.mark.parametrize("kind", ["double-free or invalid-free", "double-free", "invalid-free"])
def test_what_is_freed_wrongly(kind: str) -> None:
    text = f"BUG: KASAN: {kind} in kfree+0x1/0x2\n{STACK}"
    found = title_of(text)
    assert (found.title, found.fault) == (
        "KASAN: invalid-free in frob_write",
        Fault.KASAN_INVALID_FREE,
    )
    assert found.alternatives == ("invalid-free in frob_write",)


def test_kasan_whose_access_is_lost_is_mangled() -> None:
    found = title_of(f"BUG: KASAN: slab-out-of-bounds in frob_x+0x1/0x2\n{STACK}")
    assert found.title == "KASAN: slab-out-of-bounds in frob_x"
    assert (found.fault, bool(found.mangled)) == (Fault.KASAN_READ, True)


KMSAN = """\
BUG: KMSAN: {} in frob_send+0x1/0x2
 kmsan_get_metadata+0x1/0x2
 frob_send+0x1/0x2
 frob_sendmsg+0x1/0x2

Uninit was created at:
 slab_post_alloc_hook+0x1/0x2
 frob_alloc_buffer+0x1/0x2
"""


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("uninit-value", Fault.KMSAN_UNINITIALIZED),
        ("kernel-infoleak", Fault.KMSAN_LEAK),
        ("kernel-infoleak-after-free", Fault.KMSAN_FREED),
        ("some-new-kind", Fault.KMSAN_UNKNOWN),
    ],
)
def test_kmsan(kind: str, fault: Fault) -> None:
    found = title_of(KMSAN.format(kind))
    assert (found.title, found.fault) == (f"KMSAN: {kind} in frob_send", fault)
    assert not found.mangled


def test_kmsan_whose_origin_is_lost_is_mangled() -> None:
    assert title_of(KMSAN.format("uninit-value").partition("Uninit")[0]).mangled


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("data-race in frob_a / frob_b", Fault.KCSAN_RACE),
        ("assert: race in frob_a", Fault.KCSAN_ASSERT),
        ("something else in frob_a", Fault.KCSAN_UNKNOWN),
    ],
)
def test_kcsan_names_whom_its_head_names(what: str, fault: Fault) -> None:
    found = title_of(f"BUG: KCSAN: {what}\n\nwrite to 0xffff888012345678 of 8 bytes by task 1:")
    assert (found.title, found.fault, found.function) == (f"KCSAN: {what}", fault, "frob_a")


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("use-after-free read", Fault.KFENCE_FREED_READ),
        ("use-after-free write", Fault.KFENCE_FREED_WRITE),
        ("out-of-bounds write", Fault.KFENCE_WRITE),
        ("invalid read", Fault.KFENCE_READ),
        ("invalid free", Fault.KFENCE_INVALID_FREE),
        ("memory corruption", Fault.KFENCE_CORRUPTION),
    ],
)
def test_kfence(what: str, fault: Fault) -> None:
    text = f"BUG: KFENCE: {what} in frob_get+0x1/0x2\n\nUse (in kfence-#1):\n frob_get+0x1/0x2\n"
    found = title_of(text)
    assert (found.title, found.fault) == (f"KFENCE: {what} in frob_get", fault)


LEAK = """\
BUG: memory leak
unreferenced object 0xffff888012345678 (size 64):
  comm "frob", pid 7, jiffies 4294944704
  backtrace (crc 1a2b3c4d):
    kmalloc_trace+0x1/0x2
    frob_new_node+0x1/0x2
    frob_open+0x1/0x2
"""


def test_kmemleak() -> None:
    found = title_of(LEAK)
    assert (found.title, found.fault) == ("memory leak in frob_new_node", Fault.LEAK)
    assert not found.mangled


@pytest.mark.parametrize(
    ("head", "title", "fault"),
    [
        (
            "UBSAN: array-index-out-of-bounds in drivers/frob.c:12:3",
            "UBSAN: array-index-out-of-bounds in frob_write",
            Fault.MEMORY_SAFETY_UBSAN,
        ),
        (
            "UBSAN: shift-out-of-bounds in drivers/frob.c:12:3",
            "UBSAN: shift-out-of-bounds in frob_write",
            Fault.UBSAN,
        ),
        (
            "UBSAN: Undefined behaviour in drivers/frob.c:12:3",
            "UBSAN: undefined-behaviour in frob_write",
            Fault.UBSAN,
        ),
    ],
)
def test_ubsan(head: str, title: str, fault: Fault) -> None:
    found = title_of(f"{head}\nindex 9 is out of range for type 'int [4]'\n{STACK}")
    assert (found.title, found.fault) == (title, fault)


def test_the_first_kasan_named_no_function() -> None:
    text = (
        f"BUG: KASAN: use-after-free on address ffff8800\nWrite of size 8 by task frob/7\n{STACK}"
    )
    found = title_of(text)
    assert (found.title, found.fault) == ("KASAN: use-after-free Write", Fault.KASAN_FREED_WRITE)
    assert not found.mangled


def test_kmsan_of_what_is_sent_to_a_device_blames_its_driver() -> None:
    text = KMSAN.format("kernel-usb-infoleak").replace("kmsan_get_metadata", "usb_start_wait_urb")
    found = title_of(text)
    assert (found.title, found.fault) == (
        "KMSAN: kernel-usb-infoleak in frob_send",
        Fault.KMSAN_LEAK,
    )
    assert found.alternatives == ("KMSAN origin in frob_alloc_buffer",)


def test_kcsan_may_name_nobody() -> None:
    found = title_of("BUG: KCSAN: frobnicated\n")
    assert (found.title, found.fault) == ("KCSAN: frobnicated", Fault.KCSAN_UNKNOWN)


@pytest.mark.parametrize("what", ["Freed", "Allocated"])
def test_the_middle_of_an_old_report_is_mangled(what: str) -> None:
    found = title_of(f"INFO: {what} in frob_free+0x1/0x2 age=1234 cpu=1 pid=7\n{STACK}")
    assert found.title == f"INFO: {what} in frob_free age=NUM cpu=NUM pid=NUM"
    assert found.mangled
