"""The run queues: which tasks could run and did not, and for how long a CPU ran one task alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import drgn
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.sched import cpu_rq, task_cpu

from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.schema import Queued, Task
from vmcorefs.reports.report.walk.absent import ABSENT

_NS: Final = 1e9
_QUEUED: Final = 1  # TASK_ON_RQ_QUEUED (kernel/sched/sched.h)
_TOUCH_SHIFT: Final = 30  # kernel/watchdog.c, get_timestamp
_NO_TOUCH: Final = (0, (1 << 64) - 1)  # kernel/watchdog.c: not to be looked at; SOFTLOCKUP_...


def find_queued(
    asked: Asked, tasks: list[tuple[drgn.Object, Task]], now: int
) -> Mapping[int, list[Queued]]:
    """The tasks that wait for each CPU, by its number, the one that has waited longest first.

    They say so themselves (``on_rq``): no tree or list of a run queue has to be followed.

    Args:
        asked: Is told what cannot be had.
        tasks: All of them.
        now: What time it was, by ``furthest_clock``.
    """
    found: dict[int, list[Queued]] = {}
    for object_, task in tasks:
        try:
            if _is_queued(object_):
                cpu = task_cpu(object_)
                one = Queued(task, int(object_.prio), _waited(object_, now))
                found.setdefault(cpu, []).append(one)
        except ABSENT as error:
            asked.miss(f"cpus.queue[{task.pid}]", str(error))
    for queue in found.values():
        queue.sort(key=lambda one: -(one.seconds or 0))
    return found


def _is_queued(task: drgn.Object) -> bool:
    if int(task.on_rq) != _QUEUED or task.on_cpu:
        return False
    try:
        # it sleeps, but is kept in the queue until its turn comes (6.12, 152e11f6df29)
        return not task.se.sched_delayed
    except AttributeError:
        return True


def _waited(task: drgn.Object, now: int) -> float | None:
    try:
        since = int(task.sched_info.last_queued)
    except AttributeError:  # without CONFIG_SCHED_INFO
        return None
    return _since(since, now)


def since_it_ran(task: drgn.Object, now: int) -> float | None:
    """Seconds since a task last began to run; None if it never did, or without CONFIG_SCHED_INFO.

    Args:
        task: A ``struct task_struct *``.
        now: What time it was, by ``furthest_clock``.
    """
    try:
        return _since(int(task.sched_info.last_arrival), now)
    except ABSENT:
        return None


def _since(then: int, now: int) -> float | None:
    return max(now - then, 0) / _NS if then and now else None


def furthest_clock(program: drgn.Program) -> int:
    """What time it was, in ns: by the CPU whose run queue says the latest, as others' may stand.

    A CPU that is locked up, or idle, does not count on. 0 if none can be read.
    """
    latest = 0
    with suppress(*ABSENT):
        for cpu in for_each_possible_cpu(program):
            with suppress(*ABSENT):
                latest = max(latest, int(cpu_rq(program, cpu).clock))
    return latest


def unwatched(program: drgn.Program, cpu: int, now: int) -> float | None:
    """Seconds since a CPU's watchdog was last satisfied; None if it has none.

    Args:
        program: The kernel.
        cpu: Its number.
        now: What time it was, by ``furthest_clock``.

    Raises:
        LookupError: if the kernel has no watchdog, or there is no clock.
    """
    if not now:
        raise LookupError("no run queue tells the time")
    touched = int(per_cpu(program["watchdog_touch_ts"], cpu))
    if touched in _NO_TOUCH:
        return None
    return max((now - (touched << _TOUCH_SHIFT)) / _NS, 0.0)
