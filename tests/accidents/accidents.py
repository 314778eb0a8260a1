"""The accidents that are made: each is one machine, however many tests look at it."""

from __future__ import annotations

from typing import Final

from tests.accidents.machines import Accident


def _set(name: str, value: int) -> str:
    return f"echo {value} > /proc/sys/{name.replace('.', '/')}; "


_DISK: Final = "file=null-co://,format=raw,if=virtio"
_DISKS: Final = (
    # the first is well; the second answers a mebibyte, and then a byte in a second
    *("-drive", _DISK),
    *("-drive", f"{_DISK},throttling.bps-total=1,throttling.bps-total-max=1048576"),
)
_READ_IT: Final = """
dd if=/dev/vdb of=/dev/null bs=64k count=256 iflag=direct &
sleep 1
dd if=/dev/vdb of=/dev/null bs=64k count=1 &
"""

NULL: Final = Accident("null")
BUG: Final = Accident("bug", "newer")
SPIN: Final = Accident("spin", append="softlockup_panic=1 watchdog_thresh=4")
FREED: Final = Accident("freed", append="slub_debug=FZPU")
OVERFLOW: Final = Accident("overflow", "newer")
STALL: Final = Accident(
    "stall",
    append="rcupdate.rcu_cpu_stall_timeout=5",
    script=_set("kernel.panic_on_rcu_stall", 1),
)
_PANIC_ON_HANGS: Final = (
    _set("kernel.hung_task_timeout_secs", 5)
    + _set("kernel.hung_task_check_interval_secs", 2)
    + _set("kernel.hung_task_panic", 1)
)
HUNG_TASK: Final = Accident("deadlock", "newer", script=_PANIC_ON_HANGS)
OOM: Final = Accident(
    "oom",
    script=_set("vm.panic_on_oom", 1),
    happens="dd if=/dev/zero of=/dev/null bs=750M count=1",
    module=False,
)
LOCKUP: Final = Accident(
    "lockup",
    append="unknown_nmi_panic",
    # only the first CPU has the line of the button that makes an NMI
    happens="taskset 2 sh -c 'echo lockup > /proc/accident'",
    order="nmi",
)
MACHINE_CHECK: Final = Accident(
    "machine-check",
    "hardware",
    happens="sleep 600",
    module=False,
    # CPU 0, bank 4: VAL, UC, EN and PCC, and an error of the bus; the CPU cannot go on (MCIP)
    order="mce 0 4 0xb200000000070f0f 4 0 0",
)
HANG: Final = Accident("hang", hangs=True, devices=_DISKS, script=_READ_IT)
HANG_NEWER: Final = Accident("hang", "newer", hangs=True, devices=_DISKS, script=_READ_IT)
DEAD_DISK: Final = Accident(
    "dead-disk", "newer", "arm64", hangs=True, devices=_DISKS, happens=_READ_IT, module=False
)

# no capture kernel is loaded on arm64: a kernel that panics has all of its log on the console once
# more (panic_print), our word among it, and is stopped then
_LAST_WORDS: Final = "printk.time=0 panic_print=0x20"
_WORD: Final = "echo LAB-READY > /dev/kmsg; "

NULL_ARM64: Final = Accident(
    "null", "newer", "arm64", hangs=True, append=f"oops=panic {_LAST_WORDS}", script=_WORD
)
LOCKUP_ARM64: Final = Accident(
    "lockup",
    "newer",
    "arm64",
    hangs=True,
    append=f"watchdog_thresh=4 {_LAST_WORDS}",
    script=_set("kernel.hardlockup_panic", 1) + _WORD,
    happens="taskset 2 sh -c 'echo lockup > /proc/accident'",
)
HUNG_TASK_ARM64: Final = Accident(
    "deadlock",
    "newer",
    "arm64",
    hangs=True,
    append=_LAST_WORDS,
    script=_PANIC_ON_HANGS + _WORD,
    # as long as it takes until it panics, the lab's own word must not come
    happens="echo deadlock > /proc/accident; sleep 600",
)
