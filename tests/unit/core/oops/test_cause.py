"""Of all that a kernel has reported, what it died of."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import STACK, stamped
from vmcorefs.core.oops.cause import PANIC
from vmcorefs.core.oops.title import read_cause, read_panic

WARNING = (
    f"WARNING: CPU: 1 PID: 7 at lib/frob.c:1 frob_old+0x1/0x2\nRIP: 0010:frob_old+0x1/0x2\n{STACK}"
)
DEREFERENCE = (
    f"BUG: kernel NULL pointer dereference, address: 8\nRIP: 0010:frob_read+0x1/0x2\n{STACK}"
)
BUG = (
    "kernel BUG at drivers/frob.c:1!\nOops: invalid opcode: 0000 [#1] SMP\n"
    f"RIP: 0010:frob_check+0x1/0x2\n{STACK}"
)
HUNG = f"INFO: task frob:7 blocked for more than 143 seconds.\n{STACK}"
LATE = HUNG.replace("frob", "late")
QUIET = "frob: up\n" * 500


def cause(text: str) -> str:
    found = read_cause(stamped(text, "T7").encode())
    return found.title if found else ""


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (f"{WARNING}{QUIET}{PANIC}sysrq triggered crash\n{STACK}", "kernel panic: sysrq triggered"),
        (
            f"{WARNING}{QUIET}{DEREFERENCE}{PANIC}Fatal exception\n",
            "BUG: unable to handle kernel NULL pointer dereference in frob_read",
        ),
        (
            f"{DEREFERENCE}{WARNING}{PANIC}Fatal exception in interrupt\n",
            "BUG: unable to handle kernel NULL pointer dereference in frob_read",
        ),
        (f"{HUNG}{WARNING}{PANIC}panic_on_warn set ...\n", "WARNING in frob_old"),
        (f"{WARNING}{HUNG}{PANIC}hung_task: blocked tasks\n", "INFO: task hung in frob_write"),
        (
            # who waits for whoever hangs is found in the same go
            f"{HUNG}{LATE}{LATE}{PANIC}hung_task: blocked tasks\n",
            "INFO: task hung in frob_write",
        ),
        (
            f"{HUNG}{QUIET}{LATE}{PANIC}hung_task: blocked tasks\n",
            "INFO: task hung in late_write",
        ),
        (f"{WARNING}{QUIET}{BUG}{PANIC}Fatal exception\n", "kernel BUG in frob_check"),
        # kexec was faster than panic()
        (f"{WARNING}{QUIET}{BUG}", "kernel BUG in frob_check"),
        # what it was is lost
        (f"{PANIC}Fatal exception\n{STACK}", "kernel panic: Fatal exception"),
        # no other kernel took over: the reason is said again
        (
            f"{PANIC}Hard LOCKUP\n{STACK}---[ end {PANIC}Hard LOCKUP ]---\n",
            "kernel panic: Hard LOCKUP",
        ),
        (
            f"{WARNING}{BUG}{PANIC}Fatal exception\n---[ end {PANIC}Fatal exception ]---\n",
            "kernel BUG in frob_check",
        ),
        (QUIET, ""),
    ],
)
def test_cause(text: str, title: str) -> None:
    assert cause(text).removesuffix(" crash") == title


def test_the_line_of_a_panic_is_not_the_one_that_ends_it() -> None:
    end = f"---[ end {PANIC}Hard LOCKUP ]---\n"
    said = stamped(f"{PANIC}Hard LOCKUP\n{STACK}{end}", "T7").encode()
    assert read_panic(said) == f"{PANIC}Hard LOCKUP"
    # all that is left of it
    assert read_panic(stamped(end, "T7").encode()) == end.rstrip()
