"""What would have noticed a hang, or made a panic of it: the kernel's settings."""

from __future__ import annotations

from functools import partial
from typing import Final, Literal

from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reports.report.asked import Asked

_WORD: Final = 8
_INT: Final = 4
_SETTINGS: Final = {
    "kernel.watchdog_thresh": ("watchdog_thresh", _INT),
    "kernel.softlockup_panic": ("softlockup_panic", _INT),
    "kernel.hardlockup_panic": ("hardlockup_panic", _INT),
    "kernel.hung_task_timeout_secs": ("sysctl_hung_task_timeout_secs", _WORD),
    "kernel.hung_task_panic": ("sysctl_hung_task_panic", _INT),
    "kernel.panic_on_rcu_stall": ("sysctl_panic_on_rcu_stall", _INT),
    "kernel.panic_on_oops": ("panic_on_oops", _INT),
    "kernel.panic_on_warn": ("panic_on_warn", _INT),
    "kernel.panic": ("panic_timeout", _INT),
    "kernel.unknown_nmi_panic": ("unknown_nmi_panic", _INT),
    "vm.panic_on_oom": ("sysctl_panic_on_oom", _INT),
}
"""The variable behind each (kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h,
kernel/panic.c, arch/x86/kernel/nmi.c, mm/oom_kill.c), and its size in bytes."""
_ENABLED: Final = {"kernel.nmi_watchdog": 0, "kernel.soft_watchdog": 1}
"""Bits of ``watchdog_enabled`` (include/linux/nmi.h): which detectors of lockups ran."""


def read_watchdogs(asked: Asked, kernel: Kernel) -> dict[str, int]:
    """The settings that this kernel has, by the names that sysctl(8) has for them."""
    found = {}
    enabled = asked.get(
        "watchdogs", lambda: kernel.image.integer(kernel.symbol("watchdog_enabled"), _WORD)
    )
    if enabled is not None:
        found = {name: enabled >> bit & 1 for name, bit in _ENABLED.items()}
    for name, (variable, size) in _SETTINGS.items():
        place = kernel.symbols.lookup(variable)
        if place is None:
            continue  # this kernel has no such setting
        data = asked.get(f"watchdogs.{name}", partial(kernel.image.read, place, size))
        if data is not None:
            order: Literal["little", "big"] = "little" if kernel.byte_order == "<" else "big"
            found[name] = int.from_bytes(data, order, signed=True)
    return found
