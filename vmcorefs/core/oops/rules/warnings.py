"""WARN and WARN_ON (kernel/panic.c, ``__warn``), and the unwinder's own warnings."""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.frames import FUNCTION, INSTRUCTION
from vmcorefs.core.oops.rules.rule import ON_STACK, STACK, Blame, Rule

_SOURCE: Final = r"[a-zA-Z0-9\-_/.]+\.[a-z]+:\d+"
_TRAPPED: Final = re.compile(rf"{INSTRUCTION.pattern}|--- interrupt: \d+ at {FUNCTION}")
"""Where a warning that is a trap stood: on x86 and others in the registers, on powerpc in the line
between two stacks. Before it was one, the stack alone told."""


def _blame(spare: str = "") -> Blame:
    return Blame(
        (_TRAPPED, STACK),
        otherwise=(ON_STACK,),
        spare=re.compile(spare) if spare else None,
    )


_URB: Final = "usb_submit_urb|usb_start_wait_urb|usb_(?:bulk|interrupt|control)_msg"

CHECKS: Final = (  # warnings of code that checks its callers
    Rule(
        head=re.compile(r"WARNING: (?>.*?lib/debugobjects\.c).* (?:debug_print|debug_check|at)"),
        title="WARNING: ODEBUG bug in {f}",
        fault=Fault.WARNING,
        blame=_blame(
            "debug_|rcu|hrtimer_|timer_|work_|percpu_|vunmap|vfree|__free_|debug_check|kobject_"
        ),
    ),
    Rule(
        head=re.compile(r"WARNING: (?>.*?mm/usercopy\.c).* (?:usercopy_warn|at)"),
        title="WARNING: bad usercopy in {f}",
        fault=Fault.WARNING,
        blame=_blame("usercopy|__check"),
    ),
    Rule(
        head=re.compile(r"WARNING: (?>.*?lib/kobject\.c).* (?:kobject_|at)"),
        title="WARNING: kobject bug in {f}",
        fault=Fault.WARNING,
        blame=_blame("kobject_"),
    ),
    Rule(
        head=re.compile(r"WARNING: (?>.*?fs/proc/generic\.c).* (?:proc_register|at)"),
        title="WARNING: proc registration bug in {f}",
        fault=Fault.WARNING,
        blame=_blame("proc_"),
    ),
    Rule(
        head=re.compile(r"WARNING: (?>.*?lib/refcount\.c).* (?:refcount_|at)"),
        title="WARNING: refcount bug in {f}",
        fault=Fault.REFCOUNT,
        blame=_blame("refcount|kobject_"),
    ),
    Rule(
        head=re.compile(r"WARNING: (?>.*?kernel/locking/lockdep\.c).*lock_"),
        title="WARNING: locking bug in {f}",
        fault=Fault.LOCKDEP,
        blame=_blame("lock_sock|release_sock"),
    ),
)

ALLOCATIONS: Final = (
    Rule(
        head=re.compile(r"WARNING: (?>.*?mm/)(?>.*?\.c).* k.?malloc"),
        title="WARNING: kmalloc bug in {f}",
        fault=Fault.WARNING,
        blame=_blame("kmalloc|krealloc|slab|kmem"),
    ),
    Rule(
        head=re.compile(r"WARNING: (?>.*?mm/vmalloc\.c).*__vmalloc_node"),
        title="WARNING: zero-size vmalloc in {f}",
        fault=Fault.WARNING,
        blame=_blame(),
    ),
    Rule(  # drivers/usb/core/urb.c
        head=re.compile(r"WARNING: .* usb_submit_urb"),
        title="WARNING in {f}/usb_submit_urb",
        fault=Fault.WARNING,
        blame=_blame(_URB),
    ),
)

PLACES: Final = tuple(
    Rule(head=re.compile(head), title="WARNING in {f}", fault=Fault.WARNING, blame=_blame())
    for head in (
        rf"WARNING: {_SOURCE} at 0x\d+, CPU#\d+",  # since 6.19; that of a file without symbols
        rf"WARNING: (?:.* )?at {_SOURCE} {FUNCTION}",
        rf"WARNING: {_SOURCE} at {FUNCTION}",
        rf"WARNING: \[.*\] {_SOURCE} at {FUNCTION}",  # ... with the condition
    )
)

UNWINDER: Final = (  # arch/x86/kernel/unwind_frame.c
    Rule(
        head=re.compile(
            r"WARNING: kernel stack regs at [0-9a-f]+ in [^ ]* has bad '([^']+)' value"
        ),
        title="WARNING: kernel stack regs has bad '{0}' value",
        has_stack=False,
    ),
    Rule(
        head=re.compile(r"WARNING: kernel stack frame pointer at [0-9a-f]+ in [^ ]* has bad value"),
        title="WARNING: kernel stack frame pointer has bad value",
        has_stack=False,
    ),
    Rule(
        head=re.compile(
            r"WARNING: kernel stack (?:regs .* has bad 'bp'|frame pointer .* has bad) value"
        ),
        title="WARNING: kernel stack regs has bad value",
        has_stack=False,
    ),
)
