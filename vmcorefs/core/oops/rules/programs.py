"""What is on consoles besides the kernel: its Rust code, firmware, and syzkaller's own programs."""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.rules.rule import ON_STACK, Blame, Rule

RUST: Final = (  # rust/kernel/lib.rs, panic; what it says is in the next line
    Rule(
        head=re.compile("rust_kernel: panicked"),
        details=(re.compile("rust_kernel: panicked at "), re.compile("^(.+)$")),
        title="{0} in {f}",
        blame=Blame(ON_STACK),
    ),
)

TRUSTY: Final = (  # Android's secure world, printed by its log driver
    Rule(
        head=re.compile("trusty: panic.* ASSERT FAILED"),
        details=(
            re.compile(r"trusty: panic \([^)]*\):(?: DEBUG)? ASSERT FAILED at \([^)]*\): (.+)"),
        ),
        title="trusty: ASSERT FAILED: {0}",
        fault=Fault.DOS,
        has_stack=False,
    ),
    Rule(
        head=re.compile("trusty: panic(?>.*? ASSERT FAILED).*: *(.*)"),
        title="trusty: ASSERT FAILED: {0}",
        fault=Fault.DOS,
        mangled=True,
    ),
    Rule(
        head=re.compile("trusty: panic"),
        details=(re.compile(r"trusty: panic \([^)]*\): (.+)"),),
        title="trusty: panic: {0}",
        fault=Fault.DOS,
        has_stack=False,
    ),
)

BOOT: Final = (  # arch/arm/boot/compressed/misc.c: the machine has started anew
    Rule(
        head=re.compile("^Booting the kernel"),
        title="unexpected kernel reboot",
        fault=Fault.REBOOT,
        has_stack=False,
    ),
)

SYZ_FAIL: Final = (
    Rule(
        head=re.compile("SYZFAIL:(.*)"),
        title="SYZFAIL:{0}",
        fault=Fault.SYZ_FAILURE,
        has_stack=False,
    ),
)

SYZ_FATAL: Final = (
    Rule(
        head=re.compile("SYZFATAL:(.*)"),
        title="SYZFATAL:{0}",
        alternatives=("SYZFATAL",),
        fault=Fault.SYZ_FAILURE,
        has_stack=False,
    ),
)

GO_PANIC: Final = (
    Rule(
        head=re.compile("panic:(.*)"),
        title="panic:{0}",
        fault=Fault.DOS,
        has_stack=False,
    ),
)

GO_ERROR: Final = (
    Rule(
        head=re.compile("fatal error:"),
        title="go runtime error",
        fault=Fault.DOS,
        has_stack=False,
    ),
)
