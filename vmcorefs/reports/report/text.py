"""A report for a person: a screen for an ordinary machine, the answer first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from vmcorefs.core.space.units import format_size
from vmcorefs.reports.crash import Crash
from vmcorefs.reports.report.schema import (
    Blocked,
    Cpu,
    Died,
    Disk,
    Lock,
    Memory,
    Module,
    Oom,
    Recovered,
    Report,
    Stack,
    Task,
    Why,
)

Rows = Iterator[tuple[str, str]]

_SHOWN: Final = 8
_LONG: Final = 5.0  # seconds: a watchdog runs every 4 s (kernel/watchdog.c, set_sample_period)
STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked",
    "I": "idle kernel threads",
    "T": "stopped",
    "t": "traced",
    "Z": "zombies",
    "X": "dead",
    "P": "parked",
}


def format_report(report: Report) -> list[str]:
    """Lines: a label of 12 columns, then text; a label stands once for the lines that it is of."""
    rows = [
        *_format_died(report.died),
        *_format_why(report.why, report.crash),
        *(row for cpu in report.cpus if not cpu.panicked for row in _format_cpu(cpu)),
        *(row for cpu in report.cpus for row in format_queue(cpu)),
        *_format_tasks(report.tasks),
        *(row for group in report.blocked[:_SHOWN] for row in _format_blocked(group)),
        *_more("blocked", len(report.blocked) - _SHOWN, "more groups"),
        *format_waiting(report),
        *(_format_memory(report.memory) if report.memory is not None else ()),
        *_format_modules(report.modules),
        *format_hardware(report),
        *(("log", line) for line in report.warnings),
        *(("unknown", f"{missed.field}: {missed.why}") for missed in report.unknown),
    ]
    lines, before = [], ""
    for label, text in rows:
        lines.append(f"{label if label != before else '':<12} {text}".rstrip())
        before = label
    return lines


def _more(label: str, count: int, what: str) -> Rows:
    if count > 0:
        yield label, f"and {count} {what}"


def _format_died(died: Died) -> Rows:
    yield "machine", f"{died.host or 'name unknown'}, {died.hardware or 'hardware unknown'}"
    size = format_size(died.memory) if died.memory is not None else "memory unknown"
    cpus = "CPUs unknown" if died.cpus is None else f"{died.cpus} CPU{'s' * (died.cpus != 1)}"
    yield "", f"{died.machine or 'architecture unknown'}, {cpus}, {size}"
    yield "kernel", f"Linux {died.release or 'unknown'} {died.version or ''}"
    yield "died", f"{format_time(died.time)}, up {format_uptime(died.uptime)}"


def format_time(time: float | None) -> str:
    """A time in seconds since 1970; one that no calendar has as it is."""
    if time is None:
        return "unknown"
    try:
        return f"{datetime.fromtimestamp(time, UTC):%F %T} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time:g} s after 1970"


def format_uptime(uptime: float | None) -> str:
    """Seconds since boot; more than a calendar has as they are."""
    if uptime is None:
        return "unknown"
    try:
        return str(timedelta(seconds=int(uptime)))
    except OverflowError:
        return f"{uptime:g} s"


def _format_why(why: Why, crash: Crash) -> Rows:
    if crash.title:
        yield "why", crash.title + (f" ({crash.fault})" if crash.fault else "")
    if crash.corrupted:
        yield "why", f"the log is mangled: {crash.reason}"
    if why.panicked is None:
        yield "why", "cannot be told whether it panicked"
    elif not why.panicked:
        yield "why", "it did not panic: it was stopped from outside, or hangs"
    else:
        said = crash.panic or (crash.lines[0] if crash.lines else "it panicked")
        yield "why", said
        yield "why", f"on CPU {why.cpu}, {_format_task(why.task)}"
    for taint in why.taints:
        yield "tainted", f"{taint.letter}: {taint.meaning}"
    if why.stack is not None:
        yield from _format_stack("stack", why.stack)


def _format_task(task: Task | None) -> str:
    return "task unknown" if task is None else f"pid {task.pid} ({task.comm})"


def _format_stack(label: str, stack: Stack) -> Rows:
    for frame, same in groupby(map(str, stack.frames)):
        times = len(list(same))
        yield label, frame if times == 1 else f"{frame}, {times} times"
    if stack.broken:
        yield label, f"... {stack.broken}"


def _format_cpu(cpu: Cpu) -> Rows:
    queue = "" if cpu.running is None else f", {cpu.running} in the run queue"
    yield f"cpu {cpu.number}", f"{_format_task(cpu.task)}{queue}"
    if cpu.stack is not None:
        calls = " < ".join(frame.function or f"{frame.pc:#x}" for frame in cpu.stack.frames)
        yield f"cpu {cpu.number}", calls or f"... {cpu.stack.broken}"


def format_queue(cpu: Cpu) -> Rows:
    """What waits for a CPU; of the one that ended the machine too."""
    waiting = ", ".join(_format_task(one.task) + _since(one.seconds) for one in cpu.queue[:_SHOWN])
    more = f" and {len(cpu.queue) - _SHOWN} more" if len(cpu.queue) > _SHOWN else ""
    if waiting:
        yield f"cpu {cpu.number}", f"waiting for it: {waiting}{more}"
    if cpu.unwatched is not None and cpu.unwatched > _LONG:
        yield f"cpu {cpu.number}", f"has not run its watchdog for {cpu.unwatched:.0f} s"


def _since(seconds: float | None) -> str:
    return "" if seconds is None else f", {seconds:.1f} s"


def _format_tasks(tasks: dict[str, int]) -> Rows:
    counts = (f"{count} {STATES.get(state, state)}" for state, count in tasks.items())
    yield "tasks", ", ".join(counts) or "none found"


def _format_blocked(group: Blocked) -> Rows:
    names = ", ".join(_format_task(task) for task in group.tasks[:_SHOWN])
    more = f" and {len(group.tasks) - _SHOWN} more" if len(group.tasks) > _SHOWN else ""
    io = ", waiting for input or output" * group.io
    yield "blocked", f"{names}{more}{_since(group.seconds)}{io}"
    if group.lock is not None:
        yield "blocked", f"  waits for {format_lock(group.lock)}"
    for _, line in _format_stack("blocked", group.stack):
        yield "blocked", f"  {line}"


def format_lock(lock: Lock) -> str:
    """What a task waits for, and who holds it."""
    name = lock.symbol or f"the {lock.kind} at {lock.address:#x}"
    if lock.what:
        name = f"the {lock.kind} of {lock.what}"
    holder = "whose holder is not recorded" if lock.owner is None else "held by "
    return f"{name}, {holder}{_format_task(lock.owner) if lock.owner is not None else ''}"


def format_waiting(report: Report) -> Rows:
    """What was waited for beside CPUs and locks: disks, and memory."""
    yield from (("disks", _format_disk(disk)) for disk in report.disks)
    if report.oom is not None:
        yield from _format_oom(report.oom)


def format_hardware(report: Report) -> Rows:
    """The hardware's complaints, and what watched for hangs."""
    yield from (("hardware", line) for line in report.hardware)
    yield from (("hardware", _format_recovered(one)) for one in report.recovered or ())
    for one in report.devices:
        yield "hardware", f"{one.name}: {format_size(one.size)} saved"
    yield from _format_watchdogs(report.watchdogs)


def _format_disk(disk: Disk) -> str:
    since = "" if disk.seconds is None else f", the oldest for {disk.seconds:.0f} s"
    return f"{disk.name}: {disk.reads} reads and {disk.writes} writes under way{since}"


def _format_oom(oom: Oom) -> Rows:
    order = "" if oom.order is None else f" of order {oom.order}"
    limit = f", {oom.constraint}" if oom.constraint else ""
    yield "oom", f"{oom.invoked_by} wanted pages{order} ({oom.gfp}){limit}"
    if oom.killed:
        yield "oom", oom.killed


def _format_recovered(one: Recovered) -> str:
    return f"{one.kind}: recovered {one.count} times, last {format_time(one.time)}"


def _format_watchdogs(settings: dict[str, int]) -> Rows:
    on = " ".join(f"{name}={value}" for name, value in settings.items() if value)
    if on:
        yield "watchdog", on


def _format_memory(memory: Memory) -> Rows:
    if memory.counters:
        counts = (f"{name} {format_size(size)}" for name, size in memory.counters.items() if size)
        yield "memory", ", ".join(counts)
    if memory.processes:
        largest = (f"{p.comm} {format_size(p.rss)}" for p in memory.processes[:4])
        yield "memory", f"largest processes: {', '.join(largest)}"
    if memory.slabs:
        largest = (f"{slab.name} {format_size(slab.size)}" for slab in memory.slabs[:4])
        yield "memory", f"largest slab caches: {', '.join(largest)}"


def _format_modules(modules: list[Module]) -> Rows:
    names = (m.name + (f" ({m.taints})" if m.taints else "") for m in modules)
    if modules:
        yield "modules", " ".join(names)
