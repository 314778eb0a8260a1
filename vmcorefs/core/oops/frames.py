"""Functions in a log: entries of stacks, and where the processor was.

Stacks are printed by arch/*/kernel/dumpstack.c, stacktrace.c or traps.c, and registers by
``show_regs`` beside them; entries are ``%pS`` or ``%pB`` (lib/vsprintf.c): FUNCTION+OFFSET/SIZE.
"""

from __future__ import annotations

import re
from typing import Final

FUNCTION: Final = r"([a-zA-Z0-9_]+)[.+]"
"""A function that is followed by its offset, or by what the compiler added (.isra.0, .cold)."""
ADDRESS: Final = r"\[<?(?:0x)?[0-9a-f]+>?\]"

CALL_TRACE: Final = re.compile(r"Call [Tt]race:|Backtrace:")

INSTRUCTION: Final = re.compile(
    r"(?:IP|PC is at|pc ):? (?:"  # x86 has RIP and EIP, powerpc NIP, arm PC, arm64 and riscv pc
    rf"(?:\d+:)?(?:{ADDRESS} +){{0,2}}{FUNCTION}"
    r"|(?:\d+:)?0x[0-9a-f]+"  # a user's, or a call through a wild pointer
    rf"|(?:(?:\d+:)?{ADDRESS} +\[< *\(null\)>\]|\d+:) +\(null\)"  # ... a null pointer, before 5.0
    r")"
    rf"|(?:epc +|ERA): [0-9a-f]+ {FUNCTION}"  # mips, loongarch
    rf"|PSW *: [0-9a-f]+ [0-9a-f]+ \({FUNCTION}",  # s390
    re.ASCII,
)
"""A line that says where the processor was; a group has the function, if there is one."""

RISCV_REGISTERS: Final = re.compile(
    r"status: [0-9a-f]{16} badaddr: [0-9a-f]{16} cause: [0-9a-f]{16}"
)
"""The last line of registers: riscv prints a stack after it without a word."""

STACKS: Final = (
    re.compile(r"Call [Tt]race"),
    re.compile(r"Allocated(?: by task \d+)?:"),  # mm/kasan/report.c
    re.compile(r"Freed(?: by task \d+)?:"),
    re.compile(r"[^k] backtrace(?: \(crc [0-9a-f]*\))?:"),  # mm/kmemleak.c; not "stack backtrace:"
    re.compile(r"Backtrace:"),
    re.compile(r"Uninit was stored to memory at"),  # mm/kmsan/report.c
    RISCV_REGISTERS,
)
"""What stands above stacks."""

_STACK = re.compile("|".join(pattern.pattern for pattern in STACKS))
_ENTRY = re.compile(rf" *\(?(?:{ADDRESS} ){{0,2}}{FUNCTION}")
_ARM_ENTRY = re.compile(rf" *{ADDRESS} \(([a-zA-Z0-9_.]+)\) from {ADDRESS} \({FUNCTION}")


def begins_stack(text: str) -> bool:
    """Whether a stack is announced."""
    return _STACK.search(text) is not None


def entries(text: str) -> list[str]:
    """The functions that an entry of a stack names: none if it is no entry, and two on arm.

    There, both the function and its caller are in a line, and the innermost one in no other.
    """
    found = _ENTRY.match(text) or _ARM_ENTRY.match(text)
    return [] if found is None else list(found.groups())
