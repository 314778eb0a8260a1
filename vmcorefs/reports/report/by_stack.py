"""What a crash is called where its log is lost: the stack names the function, not the fault."""

from __future__ import annotations

from typing import Final

from vmcorefs.core.oops.innocent import is_innocent
from vmcorefs.reports.report.schema import Stack

_HOW: Final = (
    # kernel/watchdog.c, kernel/watchdog_perf.c, kernel/rcu/tree_stall.h, kernel/panic.c
    ("watchdog_timer_fn", "BUG: soft lockup"),
    ("watchdog_overflow_callback", "BUG: hard lockup"),
    ("print_cpu_stall", "INFO: rcu detected stall"),
    ("panic", "kernel panic"),
    ("vpanic", "kernel panic"),
)
_ENDING: Final = frozenset({"machine_kexec", "__crash_kexec", "crash_kexec", "oops_end", "vpanic"})
"""Functions that only end the machine (kernel/kexec_core.c, arch/x86/kernel/dumpstack.c)."""


def title_by_stack(stack: Stack) -> str:
    """The title of a crash, by the stack that led to the end; empty if no function is to blame.

    What was interrupted is to blame, and not the interrupt in which the kernel noticed.
    """
    names = [name.removesuffix(".cold") for name in stack.functions]
    how = next((how for function, how in _HOW if function in names), "crash")
    interrupted = [n for n, name in enumerate(names) if name.startswith("asm_sysvec_")]
    suspects = names[interrupted[-1] + 1 :] if interrupted else names
    for name in suspects:
        if name and name not in _ENDING and not is_innocent(name):
            return f"{how} in {name}"
    return ""
