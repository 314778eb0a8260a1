"""What was found in an image, how sure it is, and which tools will open its vmcore."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from typing import Any

from msgspec.structs import asdict, replace

from vmcorefs.api import Capture
from vmcorefs.core.consumers.objection import Objection
from vmcorefs.core.consumers.verdicts import Verdict, judge
from vmcorefs.core.elf.dump_headers import DumpHeaders, read_dump_headers
from vmcorefs.core.elf.machines import EM_NONE, machine_number
from vmcorefs.core.space.ranges import total_size
from vmcorefs.core.space.units import counted, format_size
from vmcorefs.errors import FaultError, SourceIOError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.reports.triage.describe import describe_triage, format_triage
from vmcorefs.sources.unreadable import read_up_to
from vmcorefs.system.terminal import printable

Report = dict[str, Any]
"""What ``vmcorefs check --json`` prints; sizes are integers, in bytes."""

_WIDTH = 100
_LABEL = 14

_FOLLOW_PAGE_TABLES = ("crash", "drgn", "makedumpfile", "volatility3")
"""The tools that open no dump without the root of the kernel's page tables."""


def make_check(capture: Capture) -> Report:
    """Judge a capture by the bytes of its ``vmcore``, as a tool would read them.

    Raises:
        FormatError: if the vmcore has more headers or notes than are looked at.
        FaultError: if its notes are in no input.
        SourceIOError: if an input cannot be read.
    """
    vmcore = capture["vmcore"]
    read = vmcore.reader.pread_into

    def read_notes(size: int, offset: int) -> bytes:
        return read_up_to(read, offset, max(min(size, vmcore.size - offset), 0))[0]

    dump = read_dump_headers(vmcore.pread, vmcore.size, read_notes)
    host = machine_number(os.uname().machine) or EM_NONE
    return {
        "findings": [finding.plain() for finding in capture.image.findings],
        "warnings": list(capture.image.warnings),
        "triage": describe_triage(capture.image),
        "vmcore": _describe(capture, dump),
        "tools": [_verdict(_with_losses(capture.image, one)) for one in judge(dump, host)],
    }


def _with_losses(image: MemoryImage, verdict: Verdict) -> Verdict:
    """A verdict by the headers, and by what is behind them: a tool reads more than headers."""
    if not len(image.missing):
        return verdict
    total = format_size(total_size(image.memory_map.crashed_ram))
    rule = f"of {total} of RAM, {format_size(total_size(image.missing))} are in no input"
    remedy = "the whole image, or all parts of the dump"
    fatal = not _is_readable(image) and verdict.tool in _FOLLOW_PAGE_TABLES
    if fatal:
        rule += ", and with them the kernel's page tables"
    objection = Objection(rule, "layout.json", remedy, fatal=fatal)
    return replace(verdict, objections=(*verdict.objections, objection))


def _is_readable(image: MemoryImage) -> bool:
    """Whether the root of the kernel's page tables is in the image, as far as is known."""
    if image.kernel is None or not image.kernel.has_page_tables:
        return True
    _, root = locate_page_tables(image.kernel.machine, image.kernel.vmcoreinfo)
    try:
        image.kernel.memory.pread(8, root)
    except (FaultError, SourceIOError):
        return False
    return True


def _describe(capture: Capture, dump: DumpHeaders) -> Report:
    return {
        "layout": capture.image.config.layout,
        "size": dump.size,
        "headers": capture.image.plan.origin,
        "loads": len(dump.loads),
        "notes": sum(len(segment) for segment in dump.notes),
        "release": dump.vmcoreinfo.release if dump.vmcoreinfo else None,
    }


def _verdict(verdict: Verdict) -> Report:
    return {
        "tool": verdict.tool,
        "opens": verdict.answer.value,
        "objections": [asdict(objection) for objection in verdict.objections],
    }


def format_check(report: Report) -> list[str]:
    """A report for a person: lines, a screen."""
    lines: list[str] = []
    for finding in report["findings"]:
        lines += _format_finding(finding)
    if report["triage"] is not None:
        lines += _wrap("triage dump", format_triage(report["triage"]))
    lines += _format_vmcore(report["vmcore"])
    for tool in report["tools"]:
        lines += _format_tool(tool)
    for warning in report["warnings"]:
        lines += _wrap("warning", warning)
    return lines


def _format_finding(finding: Report) -> Iterator[str]:
    value = f"{finding['value']} " if finding["value"] else ""
    reasons = f": {'; '.join(finding['reasons'])}" if finding["reasons"] else ""
    yield from _wrap(finding["what"], f"{value}({finding['sure']}){reasons}")
    if finding["against"]:
        yield from _wrap("", f"against: {'; '.join(finding['against'])}")


def _format_vmcore(vmcore: Report) -> Iterator[str]:
    release = f", Linux {vmcore['release']}" if vmcore["release"] else ", no VMCOREINFO"
    yield from _wrap(
        "vmcore",
        f"{format_size(vmcore['size'])} in the {vmcore['layout']} layout:"
        f" {counted(vmcore['loads'], 'segment')}, {counted(vmcore['notes'], 'note')}{release};"
        f" headers: {vmcore['headers']}",
    )


def _format_tool(tool: Report) -> Iterator[str]:
    objections = tool["objections"]
    if not objections:
        yield from _wrap(tool["tool"], tool["opens"])
    # what keeps it from opening comes first
    for number, each in enumerate(sorted(objections, key=lambda each: not each["fatal"])):
        remedy = f" -> {each['remedy']}" if each["remedy"] else ""
        label, answer = (tool["tool"], f"{tool['opens']}: ") if number == 0 else ("", "")
        yield from _wrap(label, f"{answer}{each['rule']}{remedy} [{each['source']}]")


def _wrap(label: str, text: str) -> list[str]:
    name = f"{label}: " if label else ""
    return textwrap.wrap(
        printable(text),  # before it is wrapped: that makes a blank of a line end
        _WIDTH,
        initial_indent=name.ljust(_LABEL),
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )
