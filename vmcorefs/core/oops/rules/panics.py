"""panic() (kernel/panic.c), where nothing before it says why."""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.frames import FUNCTION
from vmcorefs.core.oops.rules.rule import ON_STACK, Blame, Rule
from vmcorefs.core.oops.rules.stalls import at_entrance

_PANIC: Final = "Kernel panic - not syncing: "
_PROTECTOR: Final = re.compile(f"{_PANIC}stack-protector:")
_OVERFLOW: Final = ("stack-overflow in {f}",)

STACKS: Final = (  # the stack may be too broken to unwind
    Rule(
        head=_PROTECTOR,
        details=(re.compile(f"{_PANIC}stack-protector: Kernel stack is corrupted in: {FUNCTION}"),),
        title="kernel panic: stack is corrupted in {0}",
        fault=Fault.DOS,
        has_stack=False,
    ),
    Rule(
        head=_PROTECTOR,
        details=(re.compile(f"{_PANIC}stack-protector: Kernel stack is corrupted in: [a-f0-9]+"),),
        title="kernel panic: stack is corrupted in {f}",
        fault=Fault.DOS,
        blame=Blame(ON_STACK, spare=re.compile("stack_chk")),
    ),
    Rule(  # kernel/sched/core.c, schedule_debug
        head=re.compile(f"{_PANIC}corrupted stack end"),
        details=(re.compile(f"{_PANIC}corrupted stack end detected inside scheduler"),),
        title="kernel panic: corrupted stack end in {f}",
        alternatives=_OVERFLOW,
        fault=Fault.DOS,
        blame=Blame(ON_STACK, spare=re.compile("schedule|retint_kernel"), choose=at_entrance),
    ),
    Rule(  # arch/arm64/kernel/traps.c, panic_bad_stack
        head=re.compile(f"{_PANIC}kernel stack overflow"),
        title="kernel stack overflow in {f}",
        alternatives=_OVERFLOW,
        fault=Fault.DOS,
        blame=Blame(ON_STACK, spare=re.compile("bad_stack"), choose=at_entrance),
    ),
)

SHORTENED: Final = (
    Rule(
        head=re.compile(f"{_PANIC}Attempted to kill init!"),
        title="kernel panic: Attempted to kill init!",
        fault=Fault.DOS,
    ),
    Rule(
        head=re.compile(rf"{_PANIC}Couldn't open N_TTY ldisc for [^ ]+ --- error -\d"),
        title="kernel panic: Couldn't open N_TTY ldisc",
        fault=Fault.DOS,
    ),
)

QUIET: Final = (
    Rule(  # arch/x86/kernel/cpu/mce/core.c, mce_panic: the console is let through, so no stack
        head=re.compile(f"{_PANIC}([^:]*[Mm]achine check.*)"),
        title="kernel panic: {0}",
        fault=Fault.DOS,
        has_stack=False,
    ),
)

SECOND: Final = (  # what was wrong stood before it
    Rule(
        head=re.compile(f"{_PANIC}(Fatal exception|panic_on_warn set|hung_task: blocked tasks)"),
        title="kernel panic: {0}",
        fault=Fault.DOS,
        mangled=True,
    ),
)

ANY: Final = (Rule(head=re.compile(f"{_PANIC}(.*)"), title="kernel panic: {0}", fault=Fault.DOS),)
