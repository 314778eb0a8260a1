"""Reports of lockdep, of spinlocks and of RCU's checks, old and new."""

from __future__ import annotations

import pytest

from tests.unit.core.oops.logs import STACK, title_of
from vmcorefs.core.oops.faults import Fault

CIRCULAR = """\
WARNING: possible circular locking dependency detected
6.12.0 #1 Not tainted
------------------------------------------------------
frob/7 is trying to acquire lock:
ffffffff8e012345 (&a->lock){+.+.}-{3:3}, at: frob_take+0x1/0x2

but task is already holding lock:
ffffffff8e054321 (&b->lock){+.+.}-{3:3}, at: frob_hold+0x1/0x2
"""


@pytest.mark.parametrize(
    ("text", "title", "fault"),
    [
        (CIRCULAR, "possible deadlock in frob_take", "LOCKDEP"),
        (
            CIRCULAR.replace("frob_take", "flush_workqueue"),
            "possible deadlock in frob_hold",
            "LOCKDEP",
        ),
        (
            CIRCULAR.replace("circular locking dependency", "recursive locking"),
            "possible deadlock in frob_take",
            "LOCKDEP",
        ),
        (
            (
                "[ INFO: possible circular locking dependency detected ]\n"
                "frob/7 is trying to acquire lock:\n (&a){+.+.+.}, at: [<ffff>] frob_take+0x1/0x2\n"
            ),
            "possible deadlock in frob_take",
            "LOCKDEP",
        ),
        (
            (
                "WARNING: possible irq lock inversion dependency detected\n"
                "frob/7 just changed the state of lock:\n"
                "ffffffff8 (&a){-.-.}-{2:2}, at: frob_tick+0x1/0x2\n"
            ),
            "possible deadlock in frob_tick",
            "LOCKDEP",
        ),
        (
            (
                "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected\n"
                "... which became SOFTIRQ-irq-safe at:\n"
                "  lock_acquire+0x1/0x2\n  frob_timer+0x1/0x2\n"
            ),
            "possible deadlock in frob_timer",
            "LOCKDEP",
        ),
        (
            (
                "WARNING: inconsistent lock state\nfrob/7 [HC0[0]:SC1[1]:HE1:SE0] takes:\n"
                "ffffffff8 (&a){+.?.}-{2:2}, at: spin_lock+0x1/0x2\n"
            ),
            "inconsistent lock state in frob_write",
            "LOCKDEP",
        ),
        (
            "WARNING: suspicious RCU usage\ndrivers/frob.c:12 suspicious usage!\n",
            "WARNING: suspicious RCU usage in frob_write",
            "LOCKDEP",
        ),
        (
            "[ INFO: suspicious RCU usage. ]\ndrivers/frob.c:12 suspicious rcu_dereference!\n",
            "INFO: suspicious RCU usage in frob_write",
            "",
        ),
        (
            (
                "WARNING: bad unlock balance detected!\n"
                "frob/7 is trying to release lock (&a) at:\n[<ffff1234>] frob_give+0x1/0x2\n"
            ),
            "WARNING: bad unlock balance in frob_give",
            "LOCKDEP",
        ),
        (
            (
                "WARNING: held lock freed!\nfrob/7 is freeing memory with a lock held there!\n"
                "ffff88801 (&a){+.+.}, at: frob_hold+0x1/0x2\n"
            ),
            "WARNING: held lock freed in frob_hold",
            "LOCKDEP",
        ),
        (
            (
                "WARNING: frob/7 still has locks held!\n1 lock held by frob/7:\n"
                " #0: ffff88801 (&a){+.+.}, at: frob_hold+0x1/0x2\n"
            ),
            "WARNING: still has locks held in frob_hold",
            "LOCKDEP",
        ),
        (
            (
                "WARNING: lock held when returning to user space!\n"
                "frob/7 is leaving the kernel with locks still held!\n"
                " #0: ffff88801 (&a){+.+.}, at: frob_hold+0x1/0x2\n"
            ),
            "WARNING: lock held when returning to user space in frob_hold",
            "LOCKDEP",
        ),
        (
            (
                "WARNING: CPU: 0 PID: 7 at kernel/locking/lockdep.c:5203 __lock_acquire+0x1/0x2\n"
                "RIP: 0010:__lock_acquire+0x1/0x2\n"
            ),
            "WARNING: locking bug in frob_write",
            "LOCKDEP",
        ),
        ("BUG: Invalid wait context ]\n", "WARNING: locking bug in frob_write", "LOCKDEP"),
        (
            "BUG: spinlock bad magic on CPU#1, frob/7\n",
            "BUG: spinlock bad magic in frob_write",
            "LOCKDEP",
        ),
        (
            "BUG: rwlock recursion on CPU#1, frob/7\n",
            "BUG: rwlock recursion in frob_write",
            "LOCKDEP",
        ),
        (
            "INFO: trying to register non-static key.\nthe code is fine\n",
            "INFO: trying to register non-static key in frob_write",
            "",
        ),
    ],
)
def test_locking(text: str, title: str, fault: str) -> None:
    found = title_of(f"{text}\nstack backtrace:\n{STACK}")
    assert (found.title, found.fault) == (title, fault)
    assert not found.mangled


def test_a_deadlock_whose_locks_are_lost_is_mangled() -> None:
    found = title_of(f"WARNING: possible circular locking dependency detected\n{STACK}")
    assert found.title == "WARNING: possible circular locking dependency detected"
    assert (found.fault, bool(found.mangled)) == (Fault.WARNING, True)


OLD_LOCK = " (&a){+.+.+.}, at: [<ffffffff81234567>] frob_hold+0x1/0x2\n"


@pytest.mark.parametrize(
    ("head", "below", "title", "fault"),
    [
        (
            "[ INFO: possible irq lock inversion dependency detected ]",
            "frob/7 just changed the state of lock:",
            "possible deadlock in frob_hold",
            "LOCKDEP",
        ),
        (
            "[ INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected ]",
            "frob/7 [HC0[0]:SC0[2]:HE1:SE0] is trying to acquire:",
            "possible deadlock in frob_hold",
            "LOCKDEP",
        ),
        (
            "[ INFO: possible recursive locking detected ]",
            "frob/7 is trying to acquire lock:",
            "possible deadlock in frob_hold",
            "LOCKDEP",
        ),
        (
            "[ INFO: inconsistent lock state ]",
            "frob/7 [HC0[0]:SC1[1]:HE1:SE0] takes:",
            "inconsistent lock state in frob_hold",
            "LOCKDEP",
        ),
        (
            "[ BUG: frob/7 still has locks held! ]",
            "1 lock held by frob/7:",
            "BUG: still has locks held in frob_hold",
            "LOCKDEP",
        ),
        (
            "[ BUG: lock held when returning to user space! ]",
            "frob/7 is leaving the kernel with locks still held!",
            "BUG: lock held when returning to user space in frob_hold",
            "",
        ),
        (
            "[ BUG: bad unlock balance detected! ]",
            "frob/7 is trying to release lock (&a) at:",
            "BUG: bad unlock balance in frob_hold",
            "LOCKDEP",
        ),
        (
            "[ BUG: held lock freed! ]",
            "frob/7 is freeing memory ffff88801-ffff88802, with a lock still held there!",
            "BUG: held lock freed in frob_hold",
            "LOCKDEP",
        ),
    ],
)
def test_before_4_14_or_so(head: str, below: str, title: str, fault: str) -> None:
    found = title_of(f"{head}\n4.9.0 Not tainted\n{below}\n{OLD_LOCK}stack backtrace:\n{STACK}")
    assert (found.title, found.fault) == (title, fault)
    assert not found.mangled


def test_a_nested_lock() -> None:
    found = title_of(f"WARNING: Nested lock was not taken\nfrob/7 is trying to lock:\n{STACK}")
    assert found.title == "WARNING: nested lock was not taken in frob_write"
    assert found.fault == Fault.LOCKDEP
