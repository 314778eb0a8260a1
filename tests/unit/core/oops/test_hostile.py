"""Logs that were made to take long: time grows with their size, and no faster."""

from __future__ import annotations

import time

import pytest

from vmcorefs.core.oops.title import read_cause, read_title

SMALL, LARGE = 1 << 17, 1 << 20
KASAN = b"[    1.0][    T7] BUG: KASAN: use-after-free in memcpy+0x1/0x2\n"


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"", b"BUG:"),
        (b"", b"WARNING: x\n"),
        (b"", b"INFO: lockdep is turned off\n"),
        (b"", b"WARNING: " + b"lib/debugobjects.c mm/.c " * 150 + b"\n"),
        (b"", b"WARNING: " + b" at a.b:1 a at " * 250 + b"\n"),
        (b"", b"WARNING: " + b"-safe -> " * 400 + b"\n"),
        (b"", b"trusty: panic (" * 200 + b"\n"),
        (b"", b"general protection fault " * 150 + b"\n"),
        (b"", b"Kernel panic - not syncing: Fatal exception\n"),
        (b"WARNING: suspicious RCU usage\n", b"a.a." * 1000 + b"\n"),
        (b"BUG: unable to handle page fault for address\n", b"IP: 1:[<1>] " * 300 + b"\n"),
        (b"BUG: KMSAN: a in b+0x1\n", b"Local variable " * 200 + b"\n"),
        (b"SYZFAIL: ", b"a1234567" * 500),
        (KASAN, b"\n"),
        (KASAN, b"[    1.0][    T7] Call Trace:\n"),
        (KASAN, b"[    1.0][    T7]  frob_read+0x1/0x2\n"),
        (KASAN, b" login: " * 100 + b"\n"),
    ],
)
def test_time_is_linear(head: bytes, line: bytes) -> None:
    spent = []
    for size in (SMALL, LARGE):
        log = head + line * (size // len(line))
        started = time.process_time()
        read_title(log)
        read_cause(log)
        spent.append(time.process_time() - started)
    # eight times the size: a square would be 64 times the time
    assert spent[1] < 24 * max(spent[0], 0.004)
