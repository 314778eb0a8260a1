"""What detectors of memory errors and races print."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.frames import CALL_TRACE, FUNCTION
from vmcorefs.core.oops.rules.rule import ON_STACK, STACK, Blame, Rule

_BAD_ACCESS: Final = ("bad-access in {f}",)
_INVALID_FREE: Final = ("invalid-free in {f}",)
_KIND = r"[a-z\-]+"

_KASAN: Final[Mapping[str, tuple[Fault, Fault, Fault]]] = {
    "null-ptr-deref": (Fault.KASAN_NULL_READ, Fault.KASAN_NULL_WRITE, Fault.KASAN_UNKNOWN),
    "use-after-free": (Fault.KASAN_FREED_READ, Fault.KASAN_FREED_WRITE, Fault.KASAN_FREED_READ),
    "slab-use-after-free": (Fault.KASAN_FREED_READ, Fault.KASAN_FREED_WRITE, Fault.KASAN_UNKNOWN),
    "slab-out-of-bounds": (Fault.KASAN_READ, Fault.KASAN_WRITE, Fault.KASAN_READ),
    "stack-out-of-bounds": (Fault.KASAN_READ, Fault.KASAN_WRITE, Fault.KASAN_READ),
    "wild-memory-access": (Fault.KASAN_READ, Fault.KASAN_WRITE, Fault.KASAN_READ),
    "global-out-of-bounds": (Fault.KASAN_READ, Fault.KASAN_WRITE, Fault.KASAN_UNKNOWN),
    "vmalloc-out-of-bounds": (Fault.KASAN_READ, Fault.KASAN_WRITE, Fault.KASAN_UNKNOWN),
    "out-of-bounds": (Fault.KASAN_READ, Fault.KASAN_WRITE, Fault.KASAN_UNKNOWN),
    "user-memory-access": (Fault.KASAN_READ, Fault.KASAN_WRITE, Fault.KASAN_UNKNOWN),
    "invalid-access": (Fault.KASAN_READ, Fault.KASAN_UNKNOWN, Fault.KASAN_UNKNOWN),
    "unknown-crash": (Fault.KASAN_READ, Fault.KASAN_UNKNOWN, Fault.KASAN_UNKNOWN),
    "invalid-free": (Fault.KASAN_INVALID_FREE,) * 3,
    "double-free or invalid-free": (Fault.KASAN_INVALID_FREE,) * 3,
}
"""What mm/kasan/report.c and report_generic.c call it: the class of a read, a write, and where the
log does not tell which; as the dashboard has it, which knows no class for some."""


def _kasan(groups: Sequence[str]) -> Fault:
    # of a log that is mangled, more words than the kind's may be there
    kind = re.match("double-free or invalid-free|[a-z-]*", groups[0])
    faults = _KASAN.get(kind[0]) if kind else None
    if faults is None:
        return Fault.KASAN_UNKNOWN
    access = groups[1] if len(groups) > 1 else ""
    return faults[{"Read": 0, "Write": 1}.get(access, 2)]


def _kmsan(groups: Sequence[str]) -> Fault:
    match groups[0]:
        case "uninit-value":
            return Fault.KMSAN_UNINITIALIZED
        case "use-after-free" | "kernel-infoleak-after-free" | "kernel-usb-infoleak-after-free":
            return Fault.KMSAN_FREED
        case "kernel-infoleak" | "kernel-usb-infoleak":
            return Fault.KMSAN_LEAK
        case _:
            return Fault.KMSAN_UNKNOWN


def _kcsan(groups: Sequence[str]) -> Fault:
    match groups[0]:
        case "data-race":
            return Fault.KCSAN_RACE
        case "assert: race":
            return Fault.KCSAN_ASSERT
        case _:
            return Fault.KCSAN_UNKNOWN


def _kfence(groups: Sequence[str]) -> Fault:
    kind, writes = groups[0], groups[1] == "write"
    if kind == "use-after-free":
        return Fault.KFENCE_FREED_WRITE if writes else Fault.KFENCE_FREED_READ
    return Fault.KFENCE_WRITE if writes else Fault.KFENCE_READ


_FREED = r"(?:double-free or invalid-free|double-free|invalid-free)"
_KASAN_HEAD = re.compile(r"BUG: KASAN:")
_KFENCE_HEAD = re.compile(rf"BUG: KFENCE: [a-z\- ]+ in {FUNCTION}")
_KMSAN_CREATED = re.compile(r"^Local variable .* created at:|Uninit was created at:")

KASAN: Final = (  # mm/kasan/report.c
    Rule(
        head=_KASAN_HEAD,
        details=(
            re.compile(rf"BUG: KASAN: ({_KIND}) in [a-zA-Z0-9_]+[.+]"),
            re.compile(r"(Read|Write) (?:of size|at addr) [0-9a-f]"),
        ),
        title="KASAN: {0} {1} in {f}",
        alternatives=_BAD_ACCESS,
        fault=_kasan,
        blame=Blame(
            (re.compile(rf"BUG: KASAN: {_KIND} in {FUNCTION}"), *ON_STACK),
            # how arm64's memory tagging gets there
            spare=re.compile(r"kernel_fault|tag_check|mem_abort|^el1h?_"),
        ),
    ),
    Rule(
        head=_KASAN_HEAD,
        details=(re.compile(rf"BUG: KASAN: {_FREED} in [a-zA-Z0-9_]+[.+]"),),
        title="KASAN: invalid-free in {f}",
        alternatives=_INVALID_FREE,
        fault=Fault.KASAN_INVALID_FREE,
        blame=Blame(
            (re.compile(rf"BUG: KASAN: {_FREED} in {FUNCTION}"), *ON_STACK),
            spare=re.compile("slab_|kfree|vunmap|vfree"),
        ),
    ),
    Rule(  # before 4.10 or so, it named an address first
        head=_KASAN_HEAD,
        details=(
            re.compile(rf"BUG: KASAN: ({_KIND}) on address"),
            re.compile(r"(Read|Write) of size \d"),
        ),
        title="KASAN: {0} {1}",
        fault=_kasan,
    ),
    Rule(
        head=re.compile(r"BUG: KASAN: (.*)"),
        title="KASAN: {0}",
        fault=_kasan,
        mangled=True,
    ),
)

KMSAN: Final = (  # mm/kmsan/report.c; its stack follows without a word
    Rule(
        head=re.compile(r"BUG: KMSAN:"),
        details=(re.compile(r"BUG: KMSAN: (kernel-usb-infoleak) in [a-zA-Z0-9_]+[.+]"),),
        title="KMSAN: {0} in {f}",
        alternatives=("KMSAN origin in {origin}",),
        fault=_kmsan,
        blame=Blame(
            (STACK,),
            until=_KMSAN_CREATED,
            origin=(_KMSAN_CREATED, STACK),
            spare=re.compile(
                "alloc_skb|usb_submit_urb|usb_start_wait_urb|usb_(?:bulk|interrupt|control)_msg"
            ),
        ),
        has_stack=False,
    ),
    Rule(
        head=re.compile(r"BUG: KMSAN:"),
        details=(re.compile(rf"BUG: KMSAN: ({_KIND}) in [a-zA-Z0-9_]+[.+]"),),
        title="KMSAN: {0} in {f}",
        alternatives=_BAD_ACCESS,
        fault=_kmsan,
        blame=Blame(
            (STACK,),
            until=_KMSAN_CREATED,
            origin=(_KMSAN_CREATED, STACK),
            # ciphers touch whatever they are given
            spare=re.compile(
                "alloc_skb|netlink_ack|netlink_rcv_skb|_encrypt$|^(?:crypto|cipher|drbg|rng)_"
            ),
        ),
        has_stack=False,
    ),
)

KCSAN: Final = (  # kernel/kcsan/report.c: the head names both functions, in alphabetical order
    Rule(
        head=re.compile(r"BUG: KCSAN: (.*?) in ([a-zA-Z0-9_]+)(.*)"),
        title="KCSAN: {0} in {1}{2}",
        fault=_kcsan,
        has_stack=False,
    ),
    Rule(
        head=re.compile(r"BUG: KCSAN: (.*)"),
        title="KCSAN: {0}",
        fault=Fault.KCSAN_UNKNOWN,
        has_stack=False,
    ),
)

KFENCE: Final = (  # mm/kfence/report.c; its stack follows without a word
    Rule(
        head=re.compile(
            rf"BUG: KFENCE: (use-after-free|out-of-bounds|invalid) (read|write) in {FUNCTION}"
        ),
        title="KFENCE: {0} {1} in {f}",
        alternatives=_BAD_ACCESS,
        fault=_kfence,
        blame=Blame((_KFENCE_HEAD, STACK)),
    ),
    Rule(
        head=re.compile(rf"BUG: KFENCE: invalid free in {FUNCTION}"),
        title="KFENCE: invalid free in {f}",
        alternatives=_INVALID_FREE,
        fault=Fault.KFENCE_INVALID_FREE,
        blame=Blame((_KFENCE_HEAD, STACK)),
        has_stack=False,
    ),
    Rule(
        head=re.compile(rf"BUG: KFENCE: memory corruption in {FUNCTION}"),
        title="KFENCE: memory corruption in {f}",
        fault=Fault.KFENCE_CORRUPTION,
        blame=Blame((_KFENCE_HEAD, STACK)),
        has_stack=False,
    ),
)

KMEMLEAK: Final = (  # mm/kmemleak.c, as syzkaller prints what it has read of it
    Rule(
        head=re.compile(r"BUG: memory leak"),
        title="memory leak in {f}",
        fault=Fault.LEAK,
        blame=Blame(
            (re.compile(r"backtrace(?: \(crc [0-9a-f]*\))?:"), STACK),
            spare=re.compile(
                "kmemleak|mmap|kmem|slab|alloc|create_object|idr_get|list_lru_init"
                "|kv?asprintf|pcpu_create|strn?dup|memdup"
            ),
        ),
    ),
)

_UBSAN_BLAME: Final = Blame((CALL_TRACE, STACK), spare=re.compile("ubsan|overflow"))

UBSAN: Final = (  # lib/ubsan.c
    Rule(
        head=re.compile(r"UBSAN:"),
        details=(re.compile(r"UBSAN: Undefined behaviour in"),),
        title="UBSAN: undefined-behaviour in {f}",
        fault=Fault.UBSAN,
        blame=_UBSAN_BLAME,
    ),
    Rule(
        head=re.compile(r"UBSAN: array-index-out-of-bounds in"),
        title="UBSAN: array-index-out-of-bounds in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.MEMORY_SAFETY_UBSAN,
        blame=_UBSAN_BLAME,
    ),
    Rule(
        head=re.compile(r"UBSAN:"),
        details=(re.compile(r"UBSAN: (.*?) in"),),
        title="UBSAN: {0} in {f}",
        fault=Fault.UBSAN,
        blame=_UBSAN_BLAME,
    ),
)
