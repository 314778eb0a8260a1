"""Tasks: those that could not go on, and the list of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from vmcorefs.reports.report.html.markup import Markup, join, name, shorten, tag
from vmcorefs.reports.report.html.stacks import show_stack
from vmcorefs.reports.report.schema import Blocked, Task, Thread
from vmcorefs.reports.report.text import STATES, format_lock

_LISTED: Final = 20_000
"""Rows of the list: a browser takes seconds for more."""
_NAMED: Final = 12
_COLUMNS: Final = ("pid", "process", "name", "state", "CPU", "last ran")
_ONE: Final = {"I": "idle", "Z": "zombie"}
_AWAKE: Final = frozenset("RD")


def show_task(task: Task | None) -> Markup:
    """Who it is."""
    if task is None:
        return Markup("task unknown")
    return join((name(task.comm), f" (pid {task.pid})"))


def show_blocked(group: Blocked) -> Markup:
    """Tasks that wait in the same calls."""
    count = len(group.tasks)
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    who = join((join(map(show_task, group.tasks[:_NAMED]), ", "), more))
    since = () if group.seconds is None else (f", for {format_seconds(group.seconds)}",)
    lock = format_lock(group.lock) if group.lock is not None else ""
    for_what = lock or ("input or output" if group.io else "")
    waits = (tag("p", "waits for ", name(for_what)),) if for_what else ()
    return tag("article", tag("h3", who, *since), *waits, show_stack(group.stack))


def show_states(tasks: Mapping[str, int]) -> Markup:
    """How many tasks are in each state."""
    return join((f"{count} {STATES.get(state, state)}" for state, count in tasks.items()), ", ")


def list_threads(threads: list[Thread]) -> Markup:
    """The list, to be searched and sorted."""
    shown = sorted(threads, key=lambda one: one.state not in _AWAKE)[:_LISTED]
    left = len(threads) - len(shown)
    more = (tag("p", f"{left} more are in what --json prints."),) if left > 0 else ()
    heads = (tag("th", column, scope="col") for column in _COLUMNS)
    search = tag(
        "label",
        "Search ",
        tag("input", type="search", autocomplete="off", spellcheck="false"),
        tag("output", f"{len(shown)} shown"),
        class_="search",
        hidden=True,
    )
    return join(
        (
            search,
            tag(
                "div",
                tag(
                    "table",
                    tag("thead", tag("tr", *heads)),
                    tag("tbody", join(map(_row, shown))),
                    id="threads",
                ),
                class_="wide tall",
            ),
            *more,
            tag("p", "Tasks that sleep are not printed.", class_="on-paper"),
        )
    )


def _row(one: Thread) -> Markup:
    ago = "" if one.seconds is None else f"{format_seconds(one.seconds)} ago"
    cpu = "" if one.cpu is None else str(one.cpu)
    kind = {"D": "blocked", "R": "running"}.get(one.state, "asleep")
    return tag(
        "tr",
        *(tag("td", str(number)) for number in (one.pid, one.tgid)),
        tag("td", shorten(one.comm)),
        tag("td", _ONE.get(one.state) or STATES.get(one.state, one.state)),
        tag("td", cpu),
        tag("td", ago, data_value="" if one.seconds is None else f"{one.seconds:.3f}"),
        class_=kind,
    )


def format_seconds(seconds: float) -> str:
    """A time for a person: ``0.2 s``, ``3 min 20 s``, ``5 h 4 min``, ``2 d 3 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return " ".join(_parts(int(seconds)))


def _parts(seconds: int) -> Iterator[str]:
    for unit, size, less, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= size:
            yield f"{seconds // size} {unit}"
            yield f"{seconds % size // part} {less}"
            return
    yield f"{seconds // 60} min"
    yield f"{seconds % 60} s"
