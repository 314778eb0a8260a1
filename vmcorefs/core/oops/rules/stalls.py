"""What watchdogs print of CPUs and tasks that do not get on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.frames import INSTRUCTION
from vmcorefs.core.oops.rules.rule import AT_INSTRUCTION, ON_STACK, STACK, Blame, Rule

_ENTRANCES: Final = re.compile(
    # work that is handed out
    "process_one_work|netif_receive_skb|do_softirq|call_timer_fn|_run_timers|run_timer_softirq"
    "|hrtimer_run|run_ksoftirqd|tasklet_action|tasklet_hi_action|smp_call_function"
    # threads
    "|smpboot_thread_fn|^kthread$|start_secondary|cpu_startup_entry|ret_from_fork"
    # system calls
    "|do_syscall_|do_fast_syscall_|sysenter_dispatch|tracesys_phase2|el0_svc_handler"
    "|invoke_syscall|ret_fast_syscall"
    # what many files and sockets have one of: the one below says which it was
    "|vfs_(?:write|read|iter_read|iter_write|ioctl|open)|do_iter_(?:read|write)"
    "|call_(?:read|write)_iter|new_sync_(?:read|write)|ksys_ioctl|compat_(?:sys_)?ioctl"
    "|blkdev_(?:driver_)?ioctl|^call_mmap|mmap_region|do_mmap|do_dentry_open"
    "|^sock_(?:sendmsg|recvmsg|mmap|do_ioctl|ioctl)|^(?:__)?sock_release|^compat_sock_ioctl"
    "|^(?:setsockopt|listen|accept)$|kernel_(?:setsockopt|listen|accept)|sock_common_setsockopt"
    "|sk_common_release|^(?:nf|rt)netlink_rcv_msg|^netlink_dump"
    "|^(?:sys_)?(?:socketpair|connect|ioctl)"
    # page faults, and what is done on the way out
    "|__do_fault|do_page_fault|^page_fault$|__fput|task_work_run|exit_to_usermode"
)


def at_entrance(suspects: Sequence[str]) -> tuple[str, int] | None:
    """Take the outermost function of what the CPU was asked to do.

    Something loops, and where in the loop the CPU was found is chance. What it was asked to do is
    not: the function that was called from where the kernel hands out work, system calls and so on.
    """
    previous = 0
    for index, name in enumerate(suspects):
        if _ENTRANCES.search(name):
            if "smp_call_function" in name:
                return "smp_call_function", index
            return suspects[previous], previous
        previous = index
    return None


_WAITED_FOR: Final = re.compile("(rtnl_lock)|synchronize_(?:rcu|srcu|net|sched)")
_WAITING: Final = re.compile(
    "sched|_lock|_slowlock|down|rwsem|completion|kthread|wait|synchronize|context_switch"
    "|__switch_to|cancel_delayed_work|rcu_barrier"
)


def blocked(suspects: Sequence[str]) -> tuple[str, int] | None:
    """Take the function that waits, and not how.

    What everybody waits for in the end, RCU and the lock of network devices, goes before: who is
    found waiting for them is chance.
    """
    for index, name in enumerate(suspects):
        if (match := _WAITED_FOR.search(name)) is not None:
            return (name if match[1] else "synchronize_rcu"), index
    for index, name in enumerate(suspects):
        if not _WAITING.search(name):
            return name, index
    return None


_STALL: Final = ("stall in {f}",)
_HANG: Final = ("hang in {f}",)

SOFT_LOCKUPS: Final = (  # kernel/watchdog.c, watchdog_timer_fn
    Rule(
        head=re.compile("BUG: soft lockup"),
        title="BUG: soft lockup in {f}",
        alternatives=_STALL,
        fault=Fault.HANG,
        blame=Blame(AT_INSTRUCTION, choose=at_entrance),
    ),
)

WORKQUEUES: Final = (  # kernel/workqueue.c, wq_watchdog_timer_fn
    Rule(
        head=re.compile("BUG: workqueue lockup"),
        title="BUG: workqueue lockup",
        has_stack=False,
    ),
)

RCU: Final = (  # kernel/rcu/tree_stall.h, tasks.h; the stack starts with the timer that noticed
    Rule(
        head=re.compile(
            "INFO: rcu_(?:preempt|sched|bh|tasks(?:_rude|_trace)?) "
            "(?:self-)?detected(?: expedited)? stall"
        ),
        title="INFO: rcu detected stall in {f}",
        alternatives=_STALL,
        fault=Fault.HANG,
        blame=Blame(
            (re.compile("apic_timer_interrupt"), INSTRUCTION, STACK),
            otherwise=(
                (re.compile("apic_timer_interrupt|Exception stack|el1h_64_irq"), STACK),
                # since 6.1 (bc1cca97e6da) a CPU that notices its own stall shows what it was at
                (re.compile(r"\(t=\d+ jiffies .*ncpus="), *AT_INSTRUCTION),
            ),
            spare=re.compile("apic_timer_interrupt|rcu"),
            choose=at_entrance,
        ),
    ),
)

TASKS: Final = (  # kernel/hung_task.c
    Rule(
        head=re.compile(r"INFO: task .* blocked (?:in I/O wait )?for more than \d+ seconds"),
        title="INFO: task hung in {f}",
        alternatives=_HANG,
        fault=Fault.HANG,
        blame=Blame(ON_STACK, choose=blocked),
    ),
    Rule(  # linux-next only
        head=re.compile("INFO: task (?>.*?can't die for more than ).* seconds"),
        title="INFO: task can't die in {f}",
        alternatives=_HANG,
        fault=Fault.HANG,
        blame=Blame(ON_STACK, spare=re.compile("schedule")),
    ),
)
