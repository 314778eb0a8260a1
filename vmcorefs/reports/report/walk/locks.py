"""What a task that cannot go on waits for, and who holds it.

Only to an rt_mutex a pointer leads from the task. Else the waiter leads to the lock: it lies on the
task's stack, names the task, and is in the lock's list (kernel/locking/mutex.h, ``struct
mutex_waiter``; kernel/locking/rwsem.c, ``struct rwsem_waiter``; kernel/locking/semaphore.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

import drgn
import numpy as np
import numpy.typing as npt
from drgn.helpers.linux.locking import mutex_owner, rwsem_owner

from vmcorefs.core.space.units import KERNEL_HALF
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.schema import Lock, Stack
from vmcorefs.reports.report.walk.absent import ABSENT
from vmcorefs.reports.report.walk.rings import Rings
from vmcorefs.reports.report.walk.stacks import MAX_STACK, describe_task, read_stack
from vmcorefs.reports.report.walk.waits import MAX_COPIES, find_wait

_MAX_WAITERS: Final = 4096
_WORD: Final = 8

_HAS_WAITERS: Final = 1  # RT_MUTEX_HAS_WAITERS (kernel/locking/rtmutex_common.h)

_Owner = Callable[[drgn.Object], drgn.Object]


def _rt_mutex_owner(lock: drgn.Object) -> drgn.Object:
    owner = lock.owner.value_() & ~_HAS_WAITERS
    return drgn.Object(lock.prog_, "struct task_struct *", owner)


def _semaphore_owner(lock: drgn.Object) -> drgn.Object:
    """Who had it last (CONFIG_DETECT_HUNG_TASK_BLOCKER, since 6.16)."""
    return drgn.Object(lock.prog_, "struct task_struct *", lock.last_holder.value_())


_KINDS: Final[Mapping[str, tuple[str, tuple[str, ...], _Owner]]] = {
    "mutex": ("mutex_waiter", ("__mutex_lock", "mutex_lock"), mutex_owner),
    "rw_semaphore": ("rwsem_waiter", ("rwsem_down", "down_read", "down_write"), rwsem_owner),
    "semaphore": ("semaphore_waiter", ("__down", "___down"), _semaphore_owner),
}


def find_lock(names: Names, rings: Rings, task: drgn.Object, stack: Stack) -> Lock | None:
    """What a task waits for, if that can be told.

    Args:
        names: The kernel's symbols.
        rings: Lists of waiters, as far as they are known.
        task: ``struct task_struct *``.
        stack: Its stack.
    """
    try:
        if task.pi_blocked_on:
            lock = task.pi_blocked_on.lock.read_()
            return _describe(names, "rt_mutex", lock, _rt_mutex_owner)
    except ABSENT:
        pass
    for kind, (waiter, functions, owner_of) in _KINDS.items():
        if not any(name.startswith(functions) for name in stack.functions):
            continue
        try:
            for lock in _locks(rings, task, kind, waiter):
                return _describe(names, kind, lock, owner_of)
        except ABSENT:
            continue
    return find_wait(names, rings, task, stack, read_stack(task))


def _describe(names: Names, kind: str, lock: drgn.Object, owner_of: _Owner) -> Lock:
    try:
        owner = owner_of(lock)
        holder = describe_task(owner) if owner else None
    except ABSENT:
        holder = None
    address = int(lock)
    return Lock(kind, address, names.symbol(address), holder)


def _locks(rings: Rings, task: drgn.Object, kind: str, waiter: str) -> Iterator[drgn.Object]:
    """Locks of a kind that have a waiter on the task's stack."""
    program = task.prog_
    type_ = program.type(f"struct {waiter}")
    lock_type = program.type(f"struct {kind}")
    inside = drgn.offsetof(type_, "task")
    bottom = int(task.stack)
    words = read_stack(task)
    # a lock is in no stack; in this one, a pointer to a waiter may look like the end of one
    elsewhere = words[(words >= KERNEL_HALF) & ((words < bottom) | (words >= bottom + MAX_STACK))]
    for at in np.flatnonzero(words == int(task))[:MAX_COPIES].tolist():
        place = bottom + _WORD * at - inside
        try:
            one = drgn.Object(program, type_, address=place)
            if lock_type.has_member("wait_list"):
                head = rings.head_of(one.list.address_of_(), partial(_is_waiter, type_))
                if head is not None:
                    yield drgn.container_of(head, lock_type, "wait_list")
            else:
                yield from _locks_that_begin_with(lock_type, _all_waiters(one), elsewhere)
        except ABSENT:  # a copy of the pointer to the task, with something else around it
            continue


def _all_waiters(waiter: drgn.Object) -> set[int]:
    """The waiters that are in a ring with one, by address; empty if it is no ring.

    In 7.x the lock is not in its list: it leads to the first waiter.
    """
    first = waiter.list.address_of_()
    found, element, before = {int(first)}, first.next, first
    while element != first:
        if element.prev != before or len(found) > _MAX_WAITERS:
            return set()
        found.add(int(element))
        element, before = element.next, element
    return found if first.prev == before else set()


def _locks_that_begin_with(
    lock_type: drgn.Type, waiters: set[int], words: npt.NDArray[np.uint64]
) -> Iterator[drgn.Object]:
    """Locks that a stack has a pointer to, and whose first waiter is one of these."""
    program = lock_type.prog
    for address in np.unique(words).tolist():
        try:
            lock = drgn.Object(program, lock_type, address=address)
            if int(lock.first_waiter) in waiters:
                yield lock.address_of_()
        except drgn.FaultError:
            continue


def _is_waiter(type_: drgn.Type, element: drgn.Object) -> bool:
    """Whether an element lies on the stack of the task that it names; the errors are drgn's."""
    stack = int(drgn.container_of(element, type_, "list").task.stack)
    return stack <= int(element) < stack + MAX_STACK
