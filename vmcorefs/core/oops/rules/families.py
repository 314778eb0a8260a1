"""All rules, by the word that a message starts with."""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.rules import (
    bugs,
    faulting,
    locking,
    panics,
    programs,
    sanitizers,
    stalls,
    warnings,
)
from vmcorefs.core.oops.rules.rule import Family

FAMILIES: Final = (
    Family(
        "BUG:",
        (
            *sanitizers.KASAN,
            *sanitizers.KMSAN,
            *sanitizers.KCSAN,
            *sanitizers.KFENCE,
            *faulting.PAGE_FAULTS,
            *locking.SPINLOCKS,
            *stalls.SOFT_LOCKUPS,
            *locking.OLDER_HELD,
            *bugs.MEMORY,
            *bugs.DENTRIES,
            *stalls.WORKQUEUES,
            *bugs.ATOMIC,
            *sanitizers.KMEMLEAK,
            *faulting.GUARD_PAGES,
            *locking.WAIT_CONTEXT,
            bugs.nothing_but("BUG"),
        ),
        # CONFIG_DEBUG_OBJECTS, words that end in it, and arm's word for what BUG() has reported
        harmless=re.compile("DEBUG:|xlog_status:|BUG: no syscalls can create|Oops - BUG:"),
    ),
    Family(
        "WARNING:",
        (
            *warnings.CHECKS,
            *locking.HELD,
            *warnings.ALLOCATIONS,
            *warnings.PLACES,
            *locking.DEADLOCKS,
            *locking.RCU_USAGE,
            *warnings.UNWINDER,
            bugs.nothing_but("WARNING"),
        ),
        harmless=re.compile(
            "WARNING: /etc/ssh/moduli does not exist|WARNING: workqueue cpumask: online intersect"
            "|WARNING: [Tt]he mand mount option|WARNING: Unsupported flag value"
            "|WARNING: Unprivileged eBPF is enabled with eIBRS|WARNING: fbcon: Driver '"
            "|WARNING: See https|WARNING: kernel not compiled with CPU_SRSO"
            r"|EXT4-[Ff][Ss](?: \([^)]*\))?:|XFS \(\w+\): WARNING"
            "|(?i:uses (?:deprecated v2 capabilities|wireless extensions))"
        ),
        fault=Fault.WARNING,
    ),
    Family(
        "INFO:",
        (
            *locking.OLDER_DEADLOCKS,
            *stalls.RCU,
            *locking.UNKEYED,
            *locking.OLDER_RCU_USAGE,
            *stalls.TASKS,
            *bugs.OLD_KASAN,
            bugs.nothing_but("INFO"),
        ),
        harmless=re.compile(
            "INFO: lockdep is turned off|INFO: Stall ended before state dump start"
            "|INFO: NMI handler|INFO: recovery required on readonly filesystem"
            "|took too long|is not present in /proc/kallsyms"
            "|INFO: no syscalls can create resource|rmt_storage:INFO:|_INFO:"
        ),
    ),
    Family("Unable to handle kernel", faulting.UNABLE),
    Family(
        "general protection fault",
        faulting.PROTECTION,
        harmless=re.compile(r"general protection fault .* error:\d+ in "),  # a program's
    ),
    Family("stack segment: ", faulting.STACK_SEGMENT),
    Family(
        "Kernel panic",
        (*panics.STACKS, *panics.SHORTENED, *panics.QUIET, *panics.SECOND, *panics.ANY),
    ),
    Family("PANIC: double fault", faulting.DOUBLE_FAULT),
    Family("rust_kernel: panicked", programs.RUST),
    Family("kernel BUG", bugs.AT, fault=Fault.BUG),
    Family("Kernel BUG", bugs.OTHERWISE_AT),
    Family("BUG kmalloc-", bugs.SLUB),
    Family("divide error:", faulting.DIVIDE),
    Family("divide_error:", faulting.DIVIDE),
    Family("invalid opcode:", faulting.OPCODE),
    Family("UBSAN:", sanitizers.UBSAN, fault=Fault.UBSAN),
    Family(
        "Booting the kernel.",
        programs.BOOT,
        # a program that reads the console, and hands it to mount
        harmless=re.compile("Parsing ELF|Decompressing Linux|Unknown parameter '"),
    ),
    Family("unregister_netdevice: waiting for", bugs.DEVICES),
    Family("VFS: Close: file count is 0", bugs.CLOSED),
    Family("VFS: Busy inodes after unmount", bugs.BUSY),
    Family("Internal error:", faulting.INTERNAL),
    Family("Unhandled fault:", faulting.UNHANDLED),
    Family("Alignment trap:", faulting.ALIGNMENT),
    Family("trusty: panic", programs.TRUSTY, fault=Fault.DOS),
    Family(
        "fatal error:",
        programs.GO_ERROR,
        harmless=re.compile("ALSA|fatal error: cannot create timer"),
    ),
    Family("SYZFAIL:", programs.SYZ_FAIL),
    Family("SYZFATAL:", programs.SYZ_FATAL),
    Family(
        "panic:",
        programs.GO_PANIC,
        harmless=re.compile(r"_panic:|xlog_status:|ddb\.onpanic:|evtlog_status:"),
    ),
)
"""A line belongs to the first whose word it has, unless it is harmless."""
