"""What lockdep, the spinlock checks and RCU's own checks print.

Since 4.14 or so, lockdep writes WARNING where it wrote INFO or BUG (kernel/locking/lockdep.c).
"""

from __future__ import annotations

import re
from typing import Final

from vmcorefs.core.oops.faults import Fault
from vmcorefs.core.oops.frames import ADDRESS, FUNCTION, INSTRUCTION
from vmcorefs.core.oops.rules.rule import ON_STACK, STACK, Blame, Rule

_AT: Final = re.compile(rf"at:(?: +{ADDRESS})? +{FUNCTION}")
"""A lock in a list of them, and who takes it; before 4.16 or so with its address."""
_AT_ADDRESS: Final = re.compile(rf"at: {ADDRESS} +{FUNCTION}")
_AFTER_ADDRESS: Final = re.compile(rf"{ADDRESS} +{FUNCTION}")
_SOURCE: Final = re.compile(r"(?<![a-zA-Z0-9\-_/.])[a-zA-Z0-9\-_/.]+\.[a-z]+:\d")
_DEADLOCK: Final = "possible deadlock in {0}"
_NOT_SOCKETS: Final = re.compile("(?:lock|release)_sock")

DEADLOCKS: Final = (
    Rule(
        head=re.compile("WARNING: possible circular locking dependency detected"),
        details=(
            re.compile("WARNING: possible circular locking dependency detected"),
            re.compile("is trying to acquire lock"),
        ),
        title="possible deadlock in {f}",
        fault=Fault.LOCKDEP,
        blame=Blame(
            (_AT, _AT, STACK),
            # they take the locks that stand for the work
            spare=re.compile("process_one_work|(?:flush|drain|destroy)_workqueue"),
        ),
    ),
    Rule(
        head=re.compile("WARNING: possible irq lock inversion dependency detected"),
        details=(
            re.compile("WARNING: possible irq lock inversion dependency detected"),
            re.compile("just changed the state of lock"),
            _AT,
        ),
        title=_DEADLOCK,
        fault=Fault.LOCKDEP,
    ),
    Rule(
        head=re.compile("WARNING: (?>.*?-safe -> ).*-unsafe lock order detected"),
        title="possible deadlock in {f}",
        fault=Fault.LOCKDEP,
        blame=Blame((re.compile(r"which became [\w\-]+ at:"), STACK)),
    ),
    Rule(
        head=re.compile("WARNING: possible recursive locking detected"),
        details=(
            re.compile("WARNING: possible recursive locking detected"),
            re.compile("is trying to acquire lock"),
            _AT,
        ),
        title=_DEADLOCK,
        fault=Fault.LOCKDEP,
    ),
    Rule(
        head=re.compile("WARNING: inconsistent lock state"),
        details=(re.compile("WARNING: inconsistent lock state"), re.compile("takes"), _AT),
        title="inconsistent lock state in {f}",
        fault=Fault.LOCKDEP,
        blame=Blame(ON_STACK),
    ),
)


def _older(message: str, taking: str, title: str) -> Rule:
    return Rule(
        head=re.compile(f"INFO: {message}"),
        details=(re.compile(rf"INFO: {message} \]"), re.compile(taking), _AT_ADDRESS),
        title=title,
        fault=Fault.LOCKDEP,
    )


OLDER_DEADLOCKS: Final = (
    _older("possible circular locking dependency detected", "is trying to acquire lock", _DEADLOCK),
    _older(
        "possible irq lock inversion dependency detected",
        "just changed the state of lock",
        _DEADLOCK,
    ),
    _older("SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "is trying to acquire", _DEADLOCK),
    _older("possible recursive locking detected", "is trying to acquire lock", _DEADLOCK),
    _older("inconsistent lock state", "takes", "inconsistent lock state in {0}"),
)


def _rcu_usage(word: str, fault: Fault) -> Rule:
    return Rule(
        head=re.compile(f"{word}: suspicious RCU usage"),
        details=(re.compile(f"{word}: suspicious RCU usage"), _SOURCE),
        title=f"{word}: suspicious RCU usage in {{f}}",
        fault=fault,
        blame=Blame(ON_STACK, spare=re.compile("rcu|kmem|slab")),
    )


RCU_USAGE: Final = (_rcu_usage("WARNING", Fault.LOCKDEP),)
OLDER_RCU_USAGE: Final = (_rcu_usage("INFO", Fault.UNKNOWN),)


def _unlock_balance(word: str) -> Rule:
    return Rule(
        head=re.compile(f"{word}: bad unlock balance detected!"),
        title=f"{word}: bad unlock balance in {{f}}",
        fault=Fault.LOCKDEP,
        blame=Blame((_AFTER_ADDRESS, *ON_STACK)),
    )


def _returning(word: str, fault: Fault) -> Rule:
    return Rule(
        head=re.compile(f"{word}: lock held when returning to user space"),
        details=(
            re.compile(f"{word}: lock held when returning to user space"),
            re.compile("leaving the kernel with locks still held"),
            _AT,
        ),
        title=f"{word}: lock held when returning to user space in {{0}}",
        fault=fault,
        has_stack=False,
    )


HELD: Final = (
    Rule(
        head=re.compile("WARNING: .*still has locks held!"),
        details=(re.compile("WARNING: .*still has locks held!"), re.compile(rf"at: {FUNCTION}")),
        title="WARNING: still has locks held in {0}",
        fault=Fault.LOCKDEP,
    ),
    Rule(
        head=re.compile("WARNING: Nested lock was not taken"),
        title="WARNING: nested lock was not taken in {f}",
        fault=Fault.LOCKDEP,
        blame=Blame((INSTRUCTION, STACK), otherwise=(ON_STACK,)),
    ),
    _returning("WARNING", Fault.LOCKDEP),
    _unlock_balance("WARNING"),
    Rule(
        head=re.compile("WARNING: held lock freed!"),
        details=(re.compile("WARNING: held lock freed!"), _AT),
        title="WARNING: held lock freed in {0}",
        fault=Fault.LOCKDEP,
    ),
)

OLDER_HELD: Final = (
    Rule(
        head=re.compile("BUG: .*still has locks held!"),
        details=(re.compile("BUG: .*still has locks held!"), _AFTER_ADDRESS),
        title="BUG: still has locks held in {0}",
        fault=Fault.LOCKDEP,
    ),
    _returning("BUG", Fault.UNKNOWN),
    _unlock_balance("BUG"),
    Rule(
        head=re.compile("BUG: held lock freed!"),
        details=(re.compile("BUG: held lock freed!"), _AFTER_ADDRESS),
        title="BUG: held lock freed in {0}",
        fault=Fault.LOCKDEP,
    ),
)

SPINLOCKS: Final = (  # kernel/locking/spinlock_debug.c
    Rule(
        head=re.compile(
            "BUG: (spinlock|rwlock) (lockup suspected|already unlocked|recursion|cpu recursion"
            "|bad magic|wrong owner|wrong CPU|trylock failure on UP)"
        ),
        title="BUG: {0} {1} in {f}",
        fault=Fault.LOCKDEP,
        blame=Blame(ON_STACK, spare=re.compile("spin_|_lock|_unlock")),
    ),
)

WAIT_CONTEXT: Final = (  # elsewhere it is a warning of lockdep.c, which has this title
    Rule(
        head=re.compile("BUG: Invalid wait context"),
        title="WARNING: locking bug in {f}",
        fault=Fault.LOCKDEP,
        blame=Blame(ON_STACK, spare=_NOT_SOCKETS),
    ),
)

UNKEYED: Final = (
    Rule(
        head=re.compile("INFO: trying to register non-static key"),
        title="INFO: trying to register non-static key in {f}",
        blame=Blame(ON_STACK, spare=re.compile("stack|lock|IRQ")),
    ),
)
