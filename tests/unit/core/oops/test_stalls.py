"""Reports of CPUs that loop and of tasks that wait."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import title_of

LOOP = """\
 frob_spin+0x1/0x2
 frob_loop+0x1/0x2
"""
IOCTL = f"{LOOP} frob_ioctl+0x1/0x2\n vfs_ioctl+0x1/0x2\n do_syscall_64+0x1/0x2\n"


def interrupted(rest: str, where: str = "RIP: 0010:frob_spin+0x1/0x2") -> str:
    return (
        "rcu: INFO: rcu_preempt self-detected stall on CPU\n"
        "Call Trace:\n <IRQ>\n sched_show_task+0x1/0x2\n rcu_sched_clock_irq+0x1/0x2\n"
        f" </IRQ>\n asm_sysvec_apic_timer_interrupt+0x1/0x2\n{where}\n{rest}"
    )


@pytest.mark.parametrize(
    ("rest", "function"),
    [
        (IOCTL, "frob_ioctl"),
        (f"{LOOP} __x64_sys_frob+0x1/0x2\n do_syscall_64+0x1/0x2\n", "sys_frob"),
        (f"{LOOP} frob_work+0x1/0x2\n process_one_work+0x1/0x2\n", "frob_work"),
        (f"{LOOP} frob_timer+0x1/0x2\n call_timer_fn+0x1/0x2\n", "frob_timer"),
        (f"{LOOP} frob_thread+0x1/0x2\n kthread+0x1/0x2\n", "frob_thread"),
        (f"{LOOP} smp_call_function_many_cond+0x1/0x2\n frob_ioctl+0x1/0x2\n", "smp_call_function"),
    ],
)
def test_a_stall_is_named_for_what_the_cpu_was_asked_to_do(rest: str, function: str) -> None:
    found = title_of(interrupted(rest), "C0")
    assert found.title == f"INFO: rcu detected stall in {function}"
    assert f"stall in {function}" in found.alternatives
    assert found.fault == "HANG"


def test_a_cpu_that_notices_its_own_stall_shows_what_it_was_at() -> None:
    found = title_of(
        """\
rcu: INFO: rcu_preempt self-detected stall on CPU
rcu: 	0-....: (894 ticks this GP) idle=6a5c/1/0x4000000000000000 softirq=683/683 fqs=526
	(t=1250 jiffies g=249 q=29 ncpus=2)
CPU: 0 PID: 1 Comm: init Not tainted 6.1.0 #1
RIP: 0010:frob_spin+0x7/0x10
Call Trace:
 <TASK>
 frob_write+0xc0/0xe0
 vfs_write+0xc7/0x3f0
 ksys_write+0x6b/0xf0
 do_syscall_64+0x5d/0x90
 </TASK>
""",
        "C0",
    )
    assert found.title == "INFO: rcu detected stall in frob_write"
    assert not found.mangled


def test_arm64_prints_no_registers_at_the_interrupt() -> None:
    text = (
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n"
        "Call trace:\n rcu_sched_clock_irq+0x1/0x2\n el1h_64_irq+0x1/0x2\n"
        f"{LOOP} frob_poll+0x1/0x2\n invoke_syscall+0x1/0x2\n"
    )
    assert title_of(text, "C0").title == "INFO: rcu detected stall in frob_poll"


def test_a_stall_that_leads_nowhere_is_mangled() -> None:
    found = title_of(interrupted(LOOP), "C0")
    assert found.title == "INFO: rcu detected stall in corrupted"
    assert found.mangled
    assert found.function == ""


def test_soft_lockup() -> None:
    text = (
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [frob:7]\n"
        f"RIP: 0010:frob_spin+0x1/0x2\nCall Trace:\n{IOCTL}"
    )
    found = title_of(text, "C1")
    assert (found.title, found.fault) == ("BUG: soft lockup in frob_ioctl", "HANG")


HUNG = """\
INFO: task frob:7 blocked for more than 143 seconds.
      Not tainted 6.12.0 #1
task:frob state:D stack:0 pid:7 tgid:7 ppid:1 flags:0x00004000
Call Trace:
 <TASK>
 __schedule+0x1/0x2
 schedule+0x1/0x2
 {}+0x1/0x2
 frob_flush+0x1/0x2
 frob_close+0x1/0x2
"""


@pytest.mark.parametrize(
    ("waits", "function"),
    [
        ("io_schedule", "frob_flush"),
        ("rwsem_down_write_slowpath", "frob_flush"),
        ("rtnl_lock", "rtnl_lock"),
        ("synchronize_srcu", "synchronize_rcu"),
    ],
)
def test_a_hung_task_is_named_for_who_waits_or_for_what_all_wait_for(
    waits: str, function: str
) -> None:
    found = title_of(HUNG.format(waits))
    assert (found.title, found.fault) == (f"INFO: task hung in {function}", "HANG")
    assert f"hang in {function}" in found.alternatives


@pytest.mark.parametrize("how", ["blocked in I/O wait for more than 143 seconds", "can't die"])
def test_other_words_for_a_hung_task(how: str) -> None:
    how = "can't die for more than 143 seconds" if how == "can't die" else how
    text = HUNG.format("io_schedule").replace("blocked for more than 143 seconds", how)
    assert title_of(text).title.endswith(" in frob_flush")
    assert title_of(text).fault == "HANG"


def test_workqueue_lockup_names_nobody() -> None:
    found = title_of("BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 32s!")
    assert (found.title, found.fault, found.function) == ("BUG: workqueue lockup", "", "")
    assert not found.mangled
