"""What the processor would not do: page faults, protection faults, bad instructions."""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.frames import INSTRUCTION
from vmcorefs.core.oops.rules.rule import AT_INSTRUCTION, Blame, Rule
from vmcorefs.core.oops.rules.stalls import at_entrance

_BAD_ACCESS: Final = ("bad-access in {f}",)
_WHERE: Final = Blame(AT_INSTRUCTION)
_HERE_ALONE: Final = Blame((INSTRUCTION,))

PAGE_FAULTS: Final = (  # arch/x86/mm/fault.c, show_fault_oops; arch/powerpc/mm/fault.c
    Rule(
        head=re.compile(
            "BUG: (?:unable to handle kernel paging request|unable to handle page fault for address"
            "|Unable to handle kernel data access)"
        ),
        title="BUG: unable to handle kernel paging request in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.MEMORY_SAFETY_BUG,
        blame=_WHERE,
    ),
    Rule(
        head=re.compile("BUG: (?:unable to handle )?[kK]ernel NULL pointer dereference"),
        title="BUG: unable to handle kernel NULL pointer dereference in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.NULL_POINTER,
        blame=_WHERE,
    ),
    Rule(  # older kernels print the second half of the line on its own
        head=re.compile("BUG: [uU]nable to handle kernel"),
        title="BUG: unable to handle kernel",
        mangled=True,
    ),
)

GUARD_PAGES: Final = (  # arch/x86/mm/fault.c, page_fault_oops
    Rule(
        head=re.compile("BUG: .*stack guard page was hit at"),
        title="BUG: stack guard page was hit in {f}",
        alternatives=("stack-overflow in {f}",),
        blame=Blame(AT_INSTRUCTION, choose=at_entrance),
    ),
)

UNABLE: Final = (  # arch/{arm,arm64,riscv,loongarch,mips,s390}/mm/fault.c
    Rule(
        head=re.compile(r"Unable to handle kernel NULL pointer dereference"),
        title="BUG: unable to handle kernel NULL pointer dereference in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.NULL_POINTER,
        blame=_WHERE,
    ),
    Rule(
        head=re.compile(r"Unable to handle kernel (?:paging request|pointer dereference)"),
        title="BUG: unable to handle kernel paging request in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.MEMORY_SAFETY_BUG,
        blame=_WHERE,
    ),
    Rule(
        head=re.compile(r"Unable to handle kernel access to user memory"),
        title="BUG: unable to handle kernel access to user memory in {f}",
        alternatives=_BAD_ACCESS,
        blame=_WHERE,
    ),
)

PROTECTION: Final = (  # arch/x86/kernel/traps.c, exc_general_protection
    Rule(
        head=re.compile("general protection fault.*:"),
        title="general protection fault in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.DOS,
        blame=_WHERE,
    ),
)

STACK_SEGMENT: Final = (
    Rule(
        head=re.compile("stack segment: "),
        title="stack segment fault in {f}",
        fault=Fault.DOS,
        blame=_WHERE,
    ),
)

DOUBLE_FAULT: Final = (
    Rule(
        head=re.compile("PANIC: double fault"),
        title="PANIC: double fault in {f}",
        fault=Fault.DOS,
        blame=_HERE_ALONE,
    ),
)

DIVIDE: Final = (  # "divide_error" since 5.8, commit 9d06c4027f21
    Rule(
        head=re.compile("divide[ _]error: "),
        title="divide error in {f}",
        fault=Fault.DOS,
        blame=_HERE_ALONE,
    ),
)

OPCODE: Final = (
    Rule(
        head=re.compile("invalid opcode: "),
        title="invalid opcode in {f}",
        fault=Fault.DOS,
        blame=_HERE_ALONE,
    ),
)

INTERNAL: Final = (  # arch/arm{,64}/kernel/traps.c, __die
    Rule(
        head=re.compile("Internal error:"),
        title="Internal error in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.DOS,
        blame=_WHERE,
    ),
)

UNHANDLED: Final = (  # arch/arm/mm/fault.c, do_DataAbort
    Rule(
        head=re.compile("Unhandled fault:"),
        title="Unhandled fault in {f}",
        alternatives=_BAD_ACCESS,
        fault=Fault.DOS,
        blame=_WHERE,
    ),
)

ALIGNMENT: Final = (  # arch/arm/mm/alignment.c
    Rule(
        head=re.compile("Alignment trap:"),
        title="Alignment trap in {f}",
        fault=Fault.DOS,
        blame=_WHERE,
    ),
)
