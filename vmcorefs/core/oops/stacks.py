"""The calls that led to a crash, named so that two machines with the same crash have the same.

Compilers, configurations and architectures call a function differently; how the kernel noticed the
crash, and by what way it was entered, says nothing of the crash itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from vmcorefs.core.oops.frames import INSTRUCTION, begins_stack, entries
from vmcorefs.core.oops.guilt import without_prefix
from vmcorefs.core.oops.innocent import is_innocent
from vmcorefs.core.oops.rust_names import demangle

MAX_CALLS: Final = 16
"""Calls that are compared: further out, stacks of different crashes are alike."""
_MAX_READ: Final = 256

_ADDED: Final = re.compile(
    # by GCC (-fipa-*, -freorder-blocks-and-partition) and clang (ThinLTO, CFI, unique names)
    r"\.(?:isra|constprop|part|cold|lto_priv|llvm|cfi|cfi_jt|__uniq)\b.*|\.\d+$"
)

_ENTERED: Final = (
    # arch/*/entry, and what handles exceptions, interrupts and system calls before anybody else
    r"^(?:x?asm_|xen_|sysvec_|__sysvec_|el[01]|ret_(?:from|to)_|entry_|error_|handle_exception"
    r"|common_interrupt|\w*apic_timer_interrupt|do_(?:syscall|int80|fast_syscall|IRQ)|call_on_"
    r"|__do_fast_syscall|(?:x64|ia32)_sys_call|(?:__)?invoke_syscall|system_call|tracesys|sysenter"
    r"|(?:handle_|__)?irq_?(?:enter|exit)|irqentry_|(?:exc|async)_|exit_to_user|syscall_"
    r"|(?:__|do_)?(?:bad_area|no_context|page_fault|general_protection|invalid_op|divide_error|nmi)"
    r"|do_(?:user|kern)_addr_fault|kernelmode_fixup|handle_page_fault|handle_bug|stack_segment)"
)
_NOTICED: Final = (
    # panic's own frames, and the clock's, NMIs', watchdogs' and RCU's when they find a stall
    r"|^(?:machine_kexec|(?:__)?crash_|(?:__)?die|oops_|notify_die|check_panic|end_report|fail_dump"
    r"|should_fail|nmi_|arch_trigger|dump_cpu_task|(?:sched_)?show_|print_(?:cpu|other_cpu)_stall"
    r"|check_cpu_stall|rcu_(?:dump|check_callbacks|sched_clock|pending)|update_process_times|tick_"
    r"|(?:__)?hrtimer_|watchdog_|scheduler_tick|sched_tick|local_apic|__do_softirq|do_softirq"
    r"|handle_softirqs|softirq_|__might|___might|debug_|register_lock_class|look_up_lock_class"
    r"|__lock_acquire|__schedule|schedule|context_switch|preempt_|might_|arch_local_|fault_in)"
)
_OUTERMOST: Final = (
    # where threads begin, and what many system calls go through
    r"|^(?:kthread|worker_thread|process_(?:one|scheduled)_works?|rest_init|start_secondary"
    r"|cpu_startup_entry|rcu_gp_|rcu_boost|smpboot_thread_fn|secondary_startup"
    r"|(?:__)?(?:vfs|do|ksys|new_sync|call)_(?:write|read|ioctl|iter|readv|writev)"
    r"|____fput|__fput|task_work_run|do_exit|do_group_exit|get_signal)"
)
_SAYS_NOTHING: Final = re.compile(_ENTERED + _NOTICED + _OUTERMOST)


def read_calls(lines: Iterable[str]) -> tuple[str, ...]:
    """The calls that led to a crash, by its report; normalised.

    Those of the first stack of which anything is left, with where the processor was.

    Args:
        lines: Of the report, without what is printed in front of each.
    """
    found: list[str] = []
    inside = False
    for line in lines:
        begins = begins_stack(line)
        if begins or "---[ end trace" in line:
            if inside and (calls := normalise(found)):
                return calls
            inside = inside or begins
            if not begins:
                found = []
        elif (at := INSTRUCTION.search(line)) is not None:
            found += (name for name in at.groups() if name)
        elif inside and len(found) < _MAX_READ:
            found += entries(line)
    return normalise(found)


def normalise(calls: Iterable[str]) -> tuple[str, ...]:
    """Name calls as they are compared, and leave out those that say nothing of the crash.

    Args:
        calls: Functions, the innermost first; those without a name are empty.

    Returns:
        ``MAX_CALLS`` of them at most; the same call twice in a row is one.
    """
    kept: list[str] = []
    for raw in calls:
        # twice: __x64_sys_read, sys_read, read
        name = without_prefix(without_prefix(demangle(_ADDED.sub("", raw))))
        if not name or is_innocent(name) or _SAYS_NOTHING.search(name):
            continue
        if not kept or kept[-1] != name:
            kept.append(name)
        if len(kept) == MAX_CALLS:
            break
    return tuple(kept)
