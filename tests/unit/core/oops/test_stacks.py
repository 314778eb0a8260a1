"""The calls of a crash, as they are compared."""

from __future__ import annotations

import pytest

from vmcorefs.core.oops.stacks import MAX_CALLS, normalise, read_calls

OOPS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000020
CPU: 1 PID: 1 Comm: init Tainted: G           OE      6.1.0-57-cloud-amd64 #1
RIP: 0010:lab_inner+0x5/0x10 [accident]
Code: 0f 1f 44 00 00
Call Trace:
 <TASK>
 ? __die_body.cold+0x1a/0x1f
 ? page_fault_oops+0xd2/0x2b0
 asm_exc_page_fault+0x22/0x30
 lab_null.isra.0+0xa/0x10 [accident]
 accident_write+0xc0/0x150 [accident]
 vfs_write+0xd3/0x3f0
 ksys_write+0x63/0xe0
 do_syscall_64+0x55/0xb0
 entry_SYSCALL_64_after_hwframe+0x6e/0xd8
RIP: 0033:0x7f0000001000
Modules linked in: accident(OE)
---[ end trace 0000000000000000 ]---
RIP: 0010:lab_inner+0x5/0x10 [accident]
"""

STALL = """\
rcu: rcu_preempt kthread starved for 10502 jiffies!
Call Trace:
 __schedule+0x1d0/0x550
 schedule+0x63/0xd0
 rcu_gp_kthread+0x10/0x20
Call Trace:
 <IRQ>
 rcu_dump_cpu_stacks+0x10/0x20
 update_process_times+0x10/0x20
 asm_sysvec_apic_timer_interrupt+0x16/0x20
 </IRQ>
 frob_spin+0x10/0x20
 frob_ioctl+0x10/0x20
 __x64_sys_ioctl+0x10/0x20
"""


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("frob.isra.0", "frob"),
        ("frob.constprop.0.isra.2", "frob"),
        ("frob.part.3", "frob"),
        ("frob.cold", "frob"),
        ("frob.llvm.1234567890", "frob"),
        ("__x64_sys_frob", "frob"),
        ("__se_sys_frob", "frob"),
        ("asm_exc_page_fault", None),
        ("asm_sysvec_apic_timer_interrupt", None),
        ("el1h_64_sync", None),
        ("panic", None),
        ("__crash_kexec", None),
        ("oops_end", None),
        ("kasan_report", None),
        ("nmi_cpu_backtrace", None),
        ("", None),
    ],
)
def test_a_call(raw: str, name: str | None) -> None:
    assert normalise([raw]) == (() if name is None else (name,))


def test_the_same_call_twice_is_one_and_there_are_not_too_many() -> None:
    assert normalise(["frob", "frob.cold", "knob", "frob"]) == ("frob", "knob", "frob")
    assert len(normalise(f"f{n}" for n in range(100))) == MAX_CALLS


def test_of_an_oops_where_the_processor_was_and_the_calls_that_led_there() -> None:
    assert read_calls(OOPS.splitlines())[:3] == ("lab_inner", "lab_null", "accident_write")


def test_a_stack_that_says_nothing_is_passed_over() -> None:
    assert read_calls(STALL.splitlines())[:2] == ("frob_spin", "frob_ioctl")


def test_a_log_without_a_stack_has_no_calls() -> None:
    assert read_calls(["Kernel panic - not syncing: VFS", "Kernel Offset: disabled"]) == ()
