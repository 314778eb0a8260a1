"""BUG() and what subsystems report of their own broken state."""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.rules.rule import AT_INSTRUCTION, ON_STACK, STACK, Blame, Rule

ATOMIC: Final = (  # kernel/sched/core.c
    Rule(
        head=re.compile("BUG: scheduling while atomic"),
        title="BUG: scheduling while atomic in {f}",
        fault=Fault.ATOMIC_SLEEP,
        blame=Blame(ON_STACK, spare=re.compile("schedule")),
    ),
    Rule(
        head=re.compile("BUG: sleeping function called from invalid context at"),
        title="BUG: sleeping function called from invalid context in {f}",
        fault=Fault.ATOMIC_SLEEP,
        blame=Blame(ON_STACK),
    ),
    Rule(  # lib/smp_processor_id.c
        head=re.compile(r"BUG: using ([a-z_]+)\(\) in preemptible"),
        title="BUG: using {0}() in preemptible code in {f}",
        fault=Fault.LOCKDEP,
        blame=Blame(
            ON_STACK,
            spare=re.compile("dump_stack|preemption|preempt|debug_|processor_id|this_cpu"),
        ),
    ),
    Rule(  # kernel/workqueue.c, process_one_work
        head=re.compile("BUG: workqueue leaked lock or atomic"),
        details=(
            re.compile("BUG: workqueue leaked lock or atomic"),
            re.compile(r"last function: ([a-zA-Z0-9_]+)$"),
        ),
        title="BUG: workqueue leaked lock or atomic in {0}",
        has_stack=False,
    ),
)

MEMORY: Final = (  # kernel/fork.c, check_mm; mm/page_alloc.c, bad_page; mm/memory.c
    Rule(
        head=re.compile("BUG: (Bad rss-counter state|non-zero nr_p[tm][ed]s on freeing mm)"),
        title="BUG: {0}",
        has_stack=False,
    ),
    Rule(
        head=re.compile("BUG: Bad page (state|cache)"),
        title="BUG: Bad page {0} in {f}",
        blame=Blame(
            # who notices is chance: who had the page, page_owner tells
            (re.compile("page last allocated"), STACK),
            spare=re.compile(
                "(?:free|put|get|update|release)_page|free_unref|^_*folio|truncate_inode_pages"
                "|page_frag_free|alloc|vmap|page_owner"
            ),
        ),
    ),
    Rule(head=re.compile("BUG: Bad page map"), title="BUG: Bad page map"),
)

DENTRIES: Final = (  # fs/dcache.c, umount_check; not of which filesystem and device
    Rule(
        head=re.compile("BUG: Dentry .* still in use"),
        details=(re.compile(r"BUG: Dentry .* still in use \(\d+\) \[unmount of ([^\]]+)\]"),),
        title="BUG: Dentry still in use in unmount",
        alternatives=("BUG: Dentry still in use [unmount of {0}]",),
    ),
)

AT: Final = (  # BUG and BUG_ON: lib/bug.c, report_bug
    Rule(
        head=re.compile(r"kernel BUG at mm/usercopy\.c"),
        title="BUG: bad usercopy in {f}",
        fault=Fault.BUG,
        blame=Blame(ON_STACK, spare=re.compile("usercopy|__check")),
    ),
    Rule(
        head=re.compile(r"kernel BUG at lib/list_debug\.c"),
        title="BUG: corrupted list in {f}",
        alternatives=("bad-access in {f}",),
        fault=Fault.MEMORY_SAFETY_BUG,
        blame=Blame(ON_STACK),
    ),
    Rule(
        head=re.compile("kernel BUG at"),
        title="kernel BUG in {f}",
        fault=Fault.BUG,
        # what checks a packet buffer
        blame=Blame(AT_INSTRUCTION, spare=re.compile("^skb_")),
    ),
)

OTHERWISE_AT: Final = (
    Rule(head=re.compile("Kernel BUG (.*)"), title="kernel BUG {0}", fault=Fault.BUG),
)

SLUB: Final = (  # mm/slub.c, object_err
    Rule(
        head=re.compile("BUG kmalloc-.*: Object already free"),
        title="BUG: Object already free",
        fault=Fault.DOS,
    ),
)

OLD_KASAN: Final = (  # the middle of its first reports, which were slub's
    Rule(
        head=re.compile("INFO: (Freed|Allocated) in (.*)"),
        title="INFO: {0} in {1}",
        mangled=True,
    ),
)

DEVICES: Final = (  # net/core/dev.c, netdev_wait_allrefs_any
    Rule(
        head=re.compile("unregister_netdevice: waiting for .* to become free"),
        title="unregister_netdevice: waiting for DEV to become free",
        fault=Fault.DOS,
        has_stack=False,
    ),
)

CLOSED: Final = (  # fs/open.c, filp_flush
    Rule(
        head=re.compile("VFS: Close: file count is 0"),
        title="VFS: Close: file count is zero (use-after-free)",
        fault=Fault.DOS,
        has_stack=False,
    ),
)

BUSY: Final = (  # fs/super.c, generic_shutdown_super
    Rule(
        head=re.compile("VFS: Busy inodes after unmount"),
        title="VFS: Busy inodes after unmount (use-after-free)",
        fault=Fault.DOS,
        has_stack=False,
    ),
)


def nothing_but(word: str) -> Rule:
    """Say that a message was cut off behind its word."""
    return Rule(head=re.compile(rf"{word}:\s*$"), title=f"{word}: corrupted", mangled=True)
