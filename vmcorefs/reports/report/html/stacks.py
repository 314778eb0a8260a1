"""Stacks, and the CPUs side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vmcorefs.reports.report.html.markup import Markup, join, name, tag
from vmcorefs.reports.report.schema import Cpu, Frame, Stack, Task
from vmcorefs.reports.report.text import format_queue

_SHOWN: Final = 256
"""Groups of CPUs: more are no picture."""


def show_stack(stack: Stack) -> Markup:
    """The calls, the innermost first."""
    calls = (tag("li", _show_frame(frame)) for frame in stack.frames)
    broken = (tag("li", f"… {stack.broken}", class_="broken"),) if stack.broken else ()
    return tag("ol", *calls, *broken, class_="stack")


def _show_frame(frame: Frame) -> Markup:
    if not frame.function:
        return tag("code", f"{frame.pc:#x}")
    module = (" ", tag("em", frame.module)) if frame.module else ()
    return tag("code", name(frame.function), tag("small", f"+{frame.offset:#x}"), *module)


def show_cpus(cpus: list[Cpu]) -> Markup:
    """A card for each; CPUs that did the same share one."""
    groups: dict[object, list[Cpu]] = {}
    for cpu in cpus:
        same: object = cpu.number
        if cpu.stack is not None and not cpu.panicked and not any(format_queue(cpu)):
            same = cpu.stack.functions, cpu.stack.broken
        groups.setdefault(same, []).append(cpu)
    shown = sorted(groups.values(), key=lambda group: not group[0].panicked)
    cards = tag("div", *map(_card, shown[:_SHOWN]), class_="cards")
    left = sum(map(len, shown[_SHOWN:]))
    more = (tag("p", f"{left} more CPUs are in what --json prints."),) if left else ()
    return join((cards, *more))


def _card(cpus: list[Cpu]) -> Markup:
    first = cpus[0]
    title = f"CPU{'s' * (len(cpus) > 1)} {format_numbers(cpu.number for cpu in cpus)}"
    marks = (" ", tag("strong", "panicked")) if first.panicked else ()
    stack = first.stack
    return tag(
        "article",
        tag("h3", title, *marks),
        tag("p", *_show_what(cpus)),
        *(tag("p", line, class_="alarm") for cpu in cpus for _, line in format_queue(cpu)),
        show_stack(stack) if stack is not None else tag("p", "no stack", class_="broken"),
        class_="panicked" if first.panicked else None,
    )


def _show_what(cpus: list[Cpu]) -> Iterable[Markup | str]:
    names = {_name(cpu.task) for cpu in cpus}
    first = cpus[0].task
    yield name(names.pop()) if len(names) == 1 else f"{len(names)} tasks"
    if len(cpus) == 1 and first is not None:
        yield f", pid {first.pid}"
    waiting = sum(cpu.running or 0 for cpu in cpus)
    if any(cpu.running is not None for cpu in cpus):
        yield f", {waiting} in the run queue{'s' * (len(cpus) > 1)}"


def _name(task: Task | None) -> str:
    if task is None:
        return "task unknown"
    return "idle" if not task.pid else task.comm


def format_numbers(numbers: Iterable[int]) -> str:
    """Numbers in order, as the kernel lists CPUs: ``0-3, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)
