"""What a task waits for that is no lock with an owner: an event, a page, a bit, a turn.

A wait queue's entry lies on the stack of the task that waits, and names it and the function that
wakes it (include/linux/wait.h, ``struct wait_queue_entry``): that function says what the entry is a
part of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import drgn
import numpy as np
import numpy.typing as npt

from vmcorefs.core.space.units import KERNEL_HALF
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.schema import Lock, Stack
from vmcorefs.reports.report.walk.absent import ABSENT
from vmcorefs.reports.report.walk.pages import describe_page
from vmcorefs.reports.report.walk.rings import Rings

_Words = npt.NDArray[np.uint64]

MAX_COPIES: Final = 64
"""A stack has a few copies of the pointer to its task; no more than these are looked at."""
_WORD: Final = 8


def find_wait(
    names: Names, rings: Rings, task: drgn.Object, stack: Stack, words: _Words
) -> Lock | None:
    """What a task waits for by its wait queues' entries; None if there is none on its stack.

    Args:
        names: The kernel's symbols.
        rings: Lists of waiters, as far as they are known.
        task: ``struct task_struct *``.
        stack: Its calls.
        words: All that is on its stack, from its lowest address.
    """
    found = np.flatnonzero(words == int(task))[:MAX_COPIES]
    places = [int(task.stack) + _WORD * at for at in found.tolist()]
    for place in places:
        try:
            wait = _wait_of(names, rings, task.prog_, place)
        except ABSENT:
            continue
        if wait is not None:
            return wait
    functions = stack.functions
    if any(name.startswith(("wait_for_completion", "__wait_for_common")) for name in functions):
        return _first(_completion(names, rings, task.prog_, place) for place in places)
    if "percpu_down_write" in functions:
        bottom = int(task.stack)
        elsewhere = words[(words < bottom) | (words >= bottom + words.size * _WORD)]
        return _first(_awaited_by_writer(names, task, at) for at in np.unique(elsewhere).tolist())
    return None


def _first(found: Iterator[Lock | None]) -> Lock | None:
    return next((one for one in found if one is not None), None)


def _wait_of(names: Names, rings: Rings, program: drgn.Program, place: int) -> Lock | None:
    """The wait that the entry is for whose ``private`` is at ``place``."""
    type_ = program.type("struct wait_queue_entry")
    entry = drgn.Object(program, type_, address=place - drgn.offsetof(type_, "private"))
    where, wakes, link = entry.address_of_(), names.symbol(int(entry.func)), entry.entry
    if not wakes or link.next == link.address_of_() or link.next.prev != link.address_of_():
        return None  # a copy of the pointer to the task, or an entry that is in no queue
    if wakes == "wake_page_function":
        return describe_page(drgn.container_of(where, "struct wait_page_queue", "wait"))
    if wakes in {"wake_bit_function", "var_wake_function"}:
        key = drgn.container_of(where, "struct wait_bit_queue_entry", "wq_entry").key
        kind, address = ("bit" if wakes == "wake_bit_function" else "variable"), int(key.flags)
        return Lock(kind, address, names.symbol(address), None)
    head = rings.head_of(
        link.address_of_(),
        lambda element: bool(names.symbol(int(drgn.container_of(element, type_, "entry").func))),
    )
    if head is None:
        return None
    if wakes == "percpu_rwsem_wake_function":
        inside = "waiters.head"
        return _named(names, drgn.container_of(head, "struct percpu_rw_semaphore", inside))
    return _named(names, drgn.container_of(head, "struct wait_queue_head", "head"))


def _completion(names: Names, rings: Rings, program: drgn.Program, place: int) -> Lock | None:
    """The completion that has a waiter whose ``task`` is at ``place`` (include/linux/swait.h)."""
    type_ = program.type("struct swait_queue")
    try:
        waiter = drgn.Object(program, type_, address=place - drgn.offsetof(type_, "task"))
        head = rings.head_of(
            waiter.task_list.address_of_(),
            lambda element: (
                drgn.container_of(element, type_, "task_list").task.stack.value_() <= int(element)
            ),
        )
        if head is None:
            return None
        return _named(names, drgn.container_of(head, "struct completion", "wait.task_list"))
    except ABSENT:
        return None


def _awaited_by_writer(names: Names, task: drgn.Object, address: int) -> Lock | None:
    """The semaphore at an address, if this is the task that waits for its readers to go."""
    if address < KERNEL_HALF:
        return None
    try:
        lock = drgn.Object(task.prog_, "struct percpu_rw_semaphore", address=address)
        if lock.writer.task == task:
            return _named(names, lock.address_of_())
    except drgn.FaultError:
        pass
    return None


def _named(names: Names, lock: drgn.Object) -> Lock:
    kind = lock.type_.type.tag or ""
    return Lock(kind, int(lock), names.symbol(int(lock)), None)
