"""What else was going on: CPUs, tasks, and those that could not go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, TypeVar

import drgn
from drgn.helpers.linux.cpumask import for_each_cpu, for_each_online_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import cpu_curr, cpu_rq, task_cpu
from msgspec.structs import replace

from vmcorefs.core.elf.registers import CpuState
from vmcorefs.core.structures.tasks import MAX_TASKS
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.schema import Blocked, Cpu, Lock, Queued, Stack, Task, Thread
from vmcorefs.reports.report.walk.absent import ABSENT
from vmcorefs.reports.report.walk.locks import find_lock
from vmcorefs.reports.report.walk.queues import since_it_ran, unwatched
from vmcorefs.reports.report.walk.rings import Rings
from vmcorefs.reports.report.walk.stacks import describe_task, stack_at, stack_of, try_stack

T = TypeVar("T")
_Member = tuple[float | None, Task, Stack, Lock | None, bool]

_MAX_BLOCKED: Final = 4096
_BLOCKED: Final = "D"


def describe_cpus(
    asked: Asked,
    program: drgn.Program,
    names: Names,
    panicked: int | None,
    states: Mapping[int, CpuState],
    queued: Mapping[int, list[Queued]],
    now: int,
) -> list[Cpu]:
    """What each CPU that was in use did.

    Args:
        asked: Is told what cannot be had.
        program: The kernel.
        names: Its symbols.
        panicked: The CPU that ended the machine, if any did.
        states: What a hypervisor kept of CPUs, by number, where the kernel has saved nothing.
        queued: The tasks that wait for CPUs, by number.
        now: What time it was, by ``furthest_clock``.
    """
    numbers = asked.get("cpus", lambda: _cpus_in_use(program), ABSENT) or []
    return [
        replace(
            _describe_cpu(asked, program, names, number, states.get(number), now),
            panicked=number == panicked,
            queue=queued.get(number, []),
        )
        for number in numbers
    ]


def _cpus_in_use(program: drgn.Program) -> list[int]:
    """Their numbers: one that a panic has stopped is no longer online, but still active."""
    active = program["__cpu_active_mask"].address_of_()
    return sorted({*for_each_online_cpu(program), *for_each_cpu(active)})


def _describe_cpu(
    asked: Asked,
    program: drgn.Program,
    names: Names,
    number: int,
    state: CpuState | None,
    now: int,
) -> Cpu:
    """What can be asked of a CPU alone."""

    def ask(field: str, question: Callable[[], T]) -> T | None:
        return asked.get(f"cpus[{number}].{field}", question, ABSENT)

    def stack() -> Stack:
        if state is not None:
            return stack_at(names, program, state)
        return stack_of(names, cpu_curr(program, number))

    return Cpu(
        number=number,
        task=ask("task", lambda: describe_task(cpu_curr(program, number))),
        panicked=False,
        running=ask("running", lambda: int(cpu_rq(program, number).nr_running)),
        stack=ask("stack", stack),
        queue=[],
        unwatched=ask("unwatched", lambda: unwatched(program, number, now)),
    )


def all_tasks(
    asked: Asked, kernel: Kernel, program: drgn.Program
) -> list[tuple[drgn.Object, Task]]:
    """Every thread but the CPUs' idle ones, as far as the lists of them can be followed."""
    found: list[tuple[drgn.Object, Task]] = []
    try:
        # what comes before an error is kept
        found.extend((task, describe_task(task)) for task in _task_objects(asked, kernel, program))
    except ABSENT as error:
        asked.miss("tasks", f"{len(found)} found, then: {error}")
    return found


def _task_objects(asked: Asked, kernel: Kernel, program: drgn.Program) -> Iterator[drgn.Object]:
    try:
        known = kernel.tasks
    except VmcorefsError:
        if kernel.all_symbols.btf is not None:
            raise
        yield from islice(for_each_task(program), MAX_TASKS)  # by the types of a debug package
        return
    for warning in known.warnings:
        asked.miss("tasks", warning)
    for task in known.tasks:
        if task.pid:
            yield drgn.Object(program, "struct task_struct *", task.address)


def count_states(tasks: list[tuple[drgn.Object, Task]]) -> dict[str, int]:
    """How many tasks are in each state."""
    return dict(sorted(Counter(task.state for _, task in tasks).items()))


def list_threads(tasks: list[tuple[drgn.Object, Task]], now: int) -> list[Thread]:
    """Every task, in the order in which they were found; ``now`` is of ``furthest_clock``."""
    return [
        Thread(
            task.pid,
            task.tgid,
            task.comm,
            task.state,
            cpu=_cpu(object_),
            seconds=since_it_ran(object_, now),
        )
        for object_, task in tasks
    ]


def _cpu(task: drgn.Object) -> int | None:
    try:
        return int(task_cpu(task))
    except ABSENT:
        return None


def find_blocked(
    asked: Asked, names: Names, tasks: list[tuple[drgn.Object, Task]], now: int
) -> list[Blocked]:
    """The tasks in state D, those with equal stacks and locks together, the largest group first.

    Args:
        asked: Is told what cannot be had.
        names: The kernel's symbols.
        tasks: All of them.
        now: What time it was, by ``furthest_clock``.
    """
    blocked = [(object_, task) for object_, task in tasks if task.state == _BLOCKED]
    if len(blocked) > _MAX_BLOCKED:
        asked.miss("blocked", f"the stacks of {len(blocked) - _MAX_BLOCKED} more tasks")
    groups: dict[tuple[object, ...], list[_Member]] = {}
    rings = Rings()
    for object_, task in blocked[:_MAX_BLOCKED]:
        stack = try_stack(names, object_)
        lock = find_lock(names, rings, object_, stack)
        io = bool(object_.in_iowait)
        key = (stack.functions, stack.broken, lock.address if lock else None, io)
        groups.setdefault(key, []).append((since_it_ran(object_, now), task, stack, lock, io))
    return sorted(
        map(_describe_group, groups.values()),
        key=lambda group: (-len(group.tasks), -(group.seconds or 0)),
    )


def _describe_group(members: list[_Member]) -> Blocked:
    members.sort(key=lambda member: -(member[0] or 0))
    seconds, _, stack, lock, io = members[0]
    return Blocked(
        tasks=[task for _, task, *_ in members],
        seconds=seconds,
        stack=stack,
        lock=lock,
        io=io,
    )
