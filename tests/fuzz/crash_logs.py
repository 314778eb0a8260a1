"""A kernel's log, as a console or a dead machine's memory has it."""

from __future__ import annotations

from tests.fuzz.target import target
from vmcorefs.core.oops.title import CrashTitle, read_cause, read_title
from vmcorefs.core.oops.wording import MAX_TITLE

KASAN = b"""\
[   12.345678][   T57] BUG: KASAN: slab-use-after-free in frob_read+0x12/0x34
[   12.345679][   T57] Read of size 8 at addr ffff888012345678 by task frob/57
[   12.345680][   T57] Call Trace:
[   12.345681][   T57]  __se_sys_frob+0x1/0x2
[   12.345682][   T57] Kernel panic - not syncing: panic_on_warn set ...
"""
RUST = b"""\
rust_kernel: panicked at drivers/frob.rs:1:2:
attempt to add with overflow
Call Trace:
 _RNvMNtC4frob4nodeNtB2_4Node4take+0x1/0x2
"""
HUNG = b"""\
Nov 30 06:06:29 host kernel: [    1.0] INFO: task frob:7 blocked for more than 143 seconds.
Nov 30 06:06:29 host kernel: [    1.0] Call Trace:
Nov 30 06:06:29 host kernel: [    1.0]  synchronize_srcu+0x1/0x2
"""
LONG = 1 << 20


def _lines(line: bytes) -> bytes:
    return line * (LONG // len(line))


@target(
    "crash-log",
    valid=[KASAN, RUST, HUNG, b"frob: up\n", b""],
    nasty=[
        KASAN + b"\n" * LONG,
        KASAN + _lines(b"[   12.345678][   T57]  frob_read+0x1/0x2\n"),
        KASAN + _lines(b"[   12.345678][   T57] Call Trace:\n"),
        _lines(b"BUG:"),
        _lines(b"BUG:\n"),
        _lines(b"INFO: lockdep is turned off\n"),
        _lines(b"WARNING: x\n"),
        _lines(b"WARNING: " + b"lib/debugobjects.c mm/.c " * 150 + b"\n"),
        _lines(b"WARNING: " + b" at a.b:1 a at " * 250 + b"\n"),
        b"WARNING: suspicious RCU usage\n" + _lines(b"a.a." * 1000 + b"\n"),
        b"BUG: KMSAN: uninit-value in a+0x1\n" + _lines(b"Local variable " * 200 + b"\n"),
        b"BUG: KASAN: a in b+0x1\n" + _lines(b"BUG: KASAN: a-a-a-"),
        b"BUG: unable to handle kernel NULL\n" + _lines(b"IP: 1:" * 600 + b"\n"),
        b"general protection fault:\nCall Trace:\n" + _lines(b" _RNvB_B_B_B_B_B_+0x1/0x2\n"),
        _lines(b"trusty: panic (" * 200 + b"\n"),
        _lines(b" login: " * 100 + b"\n"),
        _lines(b"BUG: x\n** replaying previous printk message **\n"),
        b"BUG: " + b"a" * LONG,
        b"\0" * LONG,
        bytes(range(256)) * 64,
    ],
)
def _crash_log(data: bytes) -> None:
    for found in (read_title(data), read_cause(data)):
        if found is not None:
            _check(found)


def _check(found: CrashTitle) -> None:
    for title in (found.title, *found.alternatives):
        assert title
        assert len(title) <= MAX_TITLE
        assert title.isascii()
        assert title.isprintable()
    assert found.title not in found.alternatives
    assert list(found.alternatives) == sorted(set(found.alternatives))
