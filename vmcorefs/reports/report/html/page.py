"""The page: every part of a report, in the order of the questions that a reader has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from vmcorefs.core.space.units import format_size
from vmcorefs.image import MemoryImage
from vmcorefs.reports.report.html.areas import draw_areas
from vmcorefs.reports.report.html.document import document
from vmcorefs.reports.report.html.log import show_log
from vmcorefs.reports.report.html.markup import (
    EMPTY,
    Markup,
    items,
    join,
    name,
    table,
    tag,
    text,
)
from vmcorefs.reports.report.html.memory_map import Places, draw_map, places_of
from vmcorefs.reports.report.html.stacks import show_cpus, show_stack
from vmcorefs.reports.report.html.tasks import (
    list_threads,
    show_blocked,
    show_states,
    show_task,
)
from vmcorefs.reports.report.schema import Died, Memory, Report, Why
from vmcorefs.reports.report.text import (
    format_hardware,
    format_time,
    format_uptime,
    format_waiting,
)

_GROUPS: Final = 200
"""Groups of blocked tasks that are shown."""


class Shown(msgspec.Struct, frozen=True):
    """What a page has beside the report.

    Attributes:
        places: What is known of where things were in memory.
        log: The kernel's log; None if there is none.
    """

    places: Places
    log: bytes | None


def shown_of(image: MemoryImage) -> Shown:
    """What a page has of an image, beside its report."""
    return Shown(places_of(image), image.log)


def make_page(report: Report, shown: Shown) -> bytes:
    """The page, in UTF-8."""
    title = f"{report.died.host or 'A machine'}: {report.crash.title or 'why it died'}"
    parts = ((key, heading, show(report, shown)) for key, heading, show in _SECTIONS)
    sections = [part for part in parts if part[2]]
    links = (tag("a", heading, href=f"#{key}") for key, heading, _ in sections)
    body = (
        _show_head(report),
        tag("nav", *links),
        *(tag("section", tag("h2", heading), held, id=key) for key, heading, held in sections),
        tag("footer", "Made by vmcorefs report."),
    )
    return document(title, __package__ or "", *body)


def _show_head(report: Report) -> Markup:
    died, crash, why = report.died, report.crash, report.why
    said = crash.panic or (crash.lines[0] if crash.lines else "")
    if why.panicked is False:
        said = "It did not panic: it was stopped from outside, or hangs."
    elif why.panicked is None:
        said = said or "It cannot be told whether it panicked."
    return tag(
        "header",
        tag("p", name(died.host or "name unknown"), " · Linux ", name(died.release or "unknown")),
        tag("h1", crash.title or _untitled(why)),
        *((tag("p", said, class_="said"),) if said else ()),
        *((tag("p", f"The log is mangled: {crash.reason}"),) if crash.corrupted else ()),
        tag("dl", *_iter_facts(died, why, crash.fault)),
    )


def _untitled(why: Why) -> str:
    return "No crash" if why.panicked is False else "Cause unknown"


def _iter_facts(died: Died, why: Why, fault: str) -> Iterator[Markup]:
    cpus = "unknown" if died.cpus is None else str(died.cpus)
    facts = {
        "class": fault or None,
        "died": format_time(died.time),
        "up": format_uptime(died.uptime),
        "on": join((f"CPU {why.cpu}, ", show_task(why.task))) if why.cpu is not None else None,
        "hardware": died.hardware or "unknown",
        "machine": f"{died.machine or 'architecture unknown'}, CPUs: {cpus}",
        "memory": "unknown" if died.memory is None else format_size(died.memory),
        "build": died.version or "unknown",
        "command line": died.command_line,
        "tainted": items(f"{taint.letter}: {taint.meaning}" for taint in why.taints)
        if why.taints
        else None,
    }
    for key, value in facts.items():
        if value is not None:
            yield tag("div", tag("dt", key), tag("dd", value))


def _show_stack(report: Report, _: Shown) -> Markup:
    stack, lines = report.why.stack, report.crash.lines
    parts = (
        *((show_stack(stack),) if stack is not None else ()),
        *((tag("pre", _lines(lines)),) if lines else ()),
    )
    return tag("div", *parts, class_="pair") if parts else EMPTY


def _show_cpus(report: Report, _: Shown) -> Markup:
    return show_cpus(report.cpus) if report.cpus else EMPTY


def _show_blocked(report: Report, _: Shown) -> Markup:
    groups = tag("div", *map(show_blocked, report.blocked[:_GROUPS]), class_="cards")
    left = len(report.blocked) - _GROUPS
    more = (tag("p", f"{left} more groups are in what --json prints."),) if left > 0 else ()
    return join((groups, *more)) if report.blocked else EMPTY


def _show_tasks(report: Report, _: Shown) -> Markup:
    states = tag("p", show_states(report.tasks))
    return join((states, list_threads(report.threads))) if report.threads else EMPTY


def _show_else(report: Report, _: Shown) -> Markup:
    rows = [*format_waiting(report), *format_hardware(report)]
    return table(("what", "said"), rows) if rows else EMPTY


def _show_log(report: Report, shown: Shown) -> Markup:
    if shown.log is None:
        return EMPTY
    warnings = (tag("h3", "Last warnings"), tag("pre", _lines(report.warnings)), tag("h3", "All"))
    return join((*(warnings if report.warnings else ()), show_log(shown.log)))


def _lines(lines: list[str]) -> Markup:
    return Markup("\n".join(map(text, lines)))


def _show_memory(report: Report, shown: Shown) -> Markup:
    parts = [tag("h3", "Physical addresses"), draw_map(shown.places)]
    memory = report.memory
    if memory is not None and memory.counters:
        parts += [tag("h3", "Use"), draw_areas(memory.counters, report.died.memory)]
    if memory is not None:
        parts.append(_show_largest(memory))
    return join(parts)


def _show_largest(memory: Memory) -> Markup:
    processes = table(
        ("largest processes", "pid", "size"),
        ((one.comm, str(one.pid), format_size(one.rss)) for one in memory.processes),
    )
    slabs = table(
        ("largest slab caches", "size"), ((one.name, format_size(one.size)) for one in memory.slabs)
    )
    return tag("div", processes, slabs, class_="cards")


def _show_modules(report: Report, _: Shown) -> Markup:
    rows = (
        (
            module.name,
            module.version,
            "" if module.size is None else format_size(module.size),
            module.taints,
        )
        for module in report.modules
    )
    heads = ("name", "version", "size", "taints")
    return table(heads, rows) if report.modules else EMPTY


def _show_unknown(report: Report, _: Shown) -> Markup:
    rows = ((one.field, one.why) for one in report.unknown)
    return table(("field", "why"), rows) if report.unknown else EMPTY


_SECTIONS: Final[tuple[tuple[str, str, Callable[[Report, Shown], Markup]], ...]] = (
    ("stack", "Where it ended", _show_stack),
    ("cpus", "CPUs", _show_cpus),
    ("blocked", "Tasks that could not go on", _show_blocked),
    ("tasks", "Tasks", _show_tasks),
    ("memory", "Memory", _show_memory),
    ("else", "Disks, hardware, watchdogs", _show_else),
    ("log", "Log", _show_log),
    ("modules", "Modules", _show_modules),
    ("unknown", "What could not be found out", _show_unknown),
)
"""An id, a heading, and what is below it: EMPTY if a report has nothing of it."""
