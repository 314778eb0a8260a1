"""Titles of crashes whose logs are lost."""

from __future__ import annotations

import pytest

from vmcorefs.reports.report.by_stack import title_by_stack
from vmcorefs.reports.report.schema import Frame, Stack

_WRITE = ("frob_write", "vfs_write", "ksys_write", "do_syscall_64")


@pytest.mark.parametrize(
    ("functions", "title"),
    [
        (
            ("__crash_kexec", "panic", "sysrq_handle_crash", *_WRITE),
            "kernel panic in sysrq_handle_crash",
        ),
        (("__crash_kexec", "vpanic", "panic", "frob", *_WRITE), "kernel panic in frob"),
        (("memcpy_erms", "frob_copy", *_WRITE), "crash in frob_copy"),
        (
            (
                "panic",
                "watchdog_timer_fn.cold",
                "asm_sysvec_apic_timer_interrupt",
                "frob_spin",
                *_WRITE,
            ),
            "BUG: soft lockup in frob_spin",
        ),
        (("panic", "out_of_memory", "frob_grow", *_WRITE), "kernel panic in out_of_memory"),
        (("panic",), ""),
        (("", ""), ""),
        ((), ""),
    ],
)
def test_the_first_function_that_may_be_to_blame(functions: tuple[str, ...], title: str) -> None:
    stack = Stack([Frame(n, function) for n, function in enumerate(functions)])
    assert title_by_stack(stack) == title
