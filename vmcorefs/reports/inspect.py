"""What is known of the inputs: one report, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np

from vmcorefs.api import Capture
from vmcorefs.core.elf.elf import ELFCLASS32, PT_LOAD, PhdrTable
from vmcorefs.core.space.ranges import total_size
from vmcorefs.core.space.units import counted, format_range, format_size
from vmcorefs.errors import VmcorefsError
from vmcorefs.fuse.planes.choose import expected_plane
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.options import machine_names
from vmcorefs.reports.triage.describe import describe_triage, format_triage
from vmcorefs.system.listing import list_rows
from vmcorefs.tree.file import TreeFile
from vmcorefs.tree.filtered import Filter
from vmcorefs.tree.layout import describe_input

Report = dict[str, Any]
"""What ``vmcorefs inspect --json`` prints; addresses and sizes are integers, in bytes."""


_SHOWN = 16
"""Ranges and segments that a report for people has; the one for programs has all."""

_LARGE = ("vmcore", "oldmem", "kcore")


def make_report(capture: Capture) -> Report:
    """Put together everything that is known of a capture."""
    image = capture.image
    header = image.plan.elfcorehdr.header
    return {
        "inputs": list(_inputs(image)),
        "memory_map": {
            "dialect": image.memory_map.dialect,
            "regions": len(image.memory_map.regions),
            "ram": list_rows(image.memory_map.ram),
            "crash_kernel": image.memory_map.crash_kernel.tolist(),
            "end": image.memory_map.end,
        },
        "headers": {
            "origin": image.plan.origin,
            "paddr": image.plan.paddr,
            "class": 32 if header.elf_class == ELFCLASS32 else 64,
            "byte_order": "little" if header.byte_order == "<" else "big",
            "machine": machine_names().get(header.e_machine, str(header.e_machine)),
            "loads": int(np.count_nonzero(image.plan.elfcorehdr.phdrs["p_type"] == PT_LOAD)),
            "segments": list_rows(image.plan.elfcorehdr.phdrs, _segments),
        },
        "backup": _backup(image),
        "cpus": [_cpu(image, slot) for slot in image.notes.cpu_slots],
        "vmcoreinfo": _vmcoreinfo(image),
        "erased": image.notes.erased,
        "no_kernel": image.no_kernel or None,
        "dump_level": _dump_level(capture.filtered),
        "triage": describe_triage(image),
        "missing": list_rows(image.missing),
        "findings": [finding.plain() for finding in image.findings],
        "files": {path: _size_of(file) for path, file in capture.files.items()},
        "planes": dict(_planes(capture)),
        "warnings": list(image.warnings),
    }


def _dump_level(filtered: Filter | None) -> Report | None:
    if filtered is None:
        return None
    return {
        "level": filtered.level,
        "left_out": total_size(filtered.excluded),
        "pages": {kind.name.lower(): n for kind, n in filtered.counts.items() if n},
    }


def _size_of(file: TreeFile) -> int | None:
    """Bytes in it, or None if it cannot be made: ``layout.json`` says why."""
    try:
        return file.size
    except VmcorefsError:
        return None


def _planes(capture: Capture) -> Iterator[tuple[str, Report]]:
    """What ``mount`` would serve each large file by, if it can be made."""
    for path in _LARGE:
        if path in capture.files:
            with suppress(VmcorefsError):
                yield path, expected_plane(capture.files[path])


def _inputs(image: MemoryImage) -> Iterator[Report]:
    for source in image.inputs:
        yield {
            **describe_input(source),
            "path": source.name,
            "ranges": list_rows(image.held_by(source).ranges),
        }


def _segments(phdrs: PhdrTable) -> Iterator[Report]:
    names = ("p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz")
    columns = (phdrs[name].tolist() for name in ("p_type", *names))
    for p_type, *values in zip(*columns, strict=True):
        kind = "PT_LOAD" if p_type == PT_LOAD else "PT_NOTE"
        yield {"type": kind, **dict(zip(names, values, strict=True))}


def _backup(image: MemoryImage) -> Report | None:
    backup = image.backup
    if backup is None:
        return None
    return {"start": backup.start, "end": backup.end, "origin": backup.origin}


def _cpu(image: MemoryImage, slot: NoteSlot) -> Report:
    state = slot.state(image.plan.elfcorehdr.header)
    return {
        "paddr": slot.start if image.notes.space is None else None,
        "notes": len(slot.notes),
        "pid": state.pid if state else None,
        "ip": state.ip if state else None,
        "sp": state.sp if state else None,
    }


def _vmcoreinfo(image: MemoryImage) -> Report | None:
    vmcoreinfo = image.notes.vmcoreinfo
    if vmcoreinfo is None:
        return None
    return {
        "release": vmcoreinfo.release,
        "build_id": vmcoreinfo.values.get("BUILD-ID"),
        "crash_time": vmcoreinfo.crash_time,
        "kernel_offset": vmcoreinfo.values.get("KERNELOFFSET"),
        "page_size": vmcoreinfo.page_size,
        "lines": len(vmcoreinfo.values),
    }


def format_report(report: Report) -> list[str]:
    """A report for a person: lines, a screen at most for an ordinary machine."""
    rows: list[tuple[str, str]] = []
    rows += [(entry["role"], _format_input(entry)) for entry in report["inputs"]]
    rows += _format_map(report["memory_map"])
    rows += _format_headers(report["headers"])
    backup = report["backup"]
    if backup:
        span = format_range(backup["start"], backup["end"])
        rows.append(("low memory", f"{span} from {backup['origin']}"))
    rows += _format_kernel(report)
    rows += [(f"cpu {n}", _format_cpu(cpu)) for n, cpu in enumerate(report["cpus"])]
    rows += _format_dump_level(report["dump_level"])
    if report["triage"] is not None:
        rows.append(("triage dump", format_triage(report["triage"])))
    rows += _format_missing(report["missing"])
    rows += [("file", _format_file(path, size)) for path, size in report["files"].items()]
    rows += [("plane", f"{path}  {_format_plane(p)}") for path, p in report["planes"].items()]
    rows += [("warning", warning) for warning in report["warnings"]]
    return [f"{label + ':':<13} {text}" for label, text in rows]


def _format_file(path: str, size: int | None) -> str:
    return f"{path}  cannot be made from this image" if size is None else f"{path}  {size} bytes"


def _format_plane(plane: Report) -> str:
    why_not = f"; {'; '.join(plane['why_not'])}" if plane["why_not"] else ""
    return f"{plane['name']}: {plane['by']}{why_not}"


def _format_input(entry: Report) -> str:
    ranges = ", ".join(format_range(*r) for r in entry["ranges"][:4])
    more = f" and {len(entry['ranges']) - 4} more" if len(entry["ranges"]) > 4 else ""
    kind = " in a ".join([*reversed(entry["wrappers"]), entry["kind"]])
    if entry["format"] != "raw memory":
        kind = f"{entry['format']} in a {kind}"
    return f"{entry['path']}  {kind} of {format_size(entry['size'])}, at {ranges}{more}"


def _format_map(memory_map: Report) -> Iterator[tuple[str, str]]:
    ram = memory_map["ram"]
    size = format_size(sum(map(itemgetter(1), ram)) - sum(map(itemgetter(0), ram)))
    count, end = counted(len(ram), "range"), memory_map["end"]
    yield "map", f"{memory_map['dialect']}: {size} of RAM in {count}, up to {end:#x}"
    for span in memory_map["crash_kernel"]:
        yield "crash kernel", f"{format_range(*span)}  {format_size(span[1] - span[0])}"


def _format_missing(missing: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for span in missing[:_SHOWN]:
        yield "missing", f"{format_range(*span)}: reads fail"
    if len(missing) > _SHOWN:
        yield "missing", f"and {len(missing) - _SHOWN} more"


def _format_headers(headers: Report) -> Iterator[tuple[str, str]]:
    kind = f"ELF{headers['class']}, {headers['byte_order']} endian, {headers['machine']}"
    yield "headers", f"{headers['origin']}: {kind}"
    loads = (segment for segment in headers["segments"] if segment["type"] == "PT_LOAD")
    for load in islice(loads, _SHOWN):
        span = format_range(load["p_paddr"], load["p_paddr"] + load["p_memsz"])
        via = f", read at {load['p_offset']:#x}" if load["p_offset"] != load["p_paddr"] else ""
        vaddr = f"at vaddr {load['p_vaddr']:#x}" if load["p_vaddr"] else "vaddr unknown"
        yield "segment", f"{span}  {vaddr}{via}"
    if headers["loads"] > _SHOWN:
        yield "segment", f"and {headers['loads'] - _SHOWN} more"


def _format_kernel(report: Report) -> Iterator[tuple[str, str]]:
    vmcoreinfo = report["vmcoreinfo"]
    if vmcoreinfo is None:
        yield "kernel", f"unknown: {report['no_kernel']}"
        return
    build_id = vmcoreinfo["build_id"]
    yield (
        "kernel",
        f"Linux {vmcoreinfo['release']}" + (f", build id {build_id}" if build_id else ""),
    )
    seconds = vmcoreinfo["crash_time"]
    when = (
        f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
        if seconds is not None
        else "not yet: VMCOREINFO has no CRASHTIME"
    )
    yield "crashed", when


def _format_dump_level(dump_level: Report | None) -> Iterator[tuple[str, str]]:
    if dump_level is not None:
        pages = ", ".join(f"{count} {kind}" for kind, count in dump_level["pages"].items())
        size = format_size(dump_level["left_out"])
        yield "dump level", f"{dump_level['level']}: {size} left out of vmcore; pages: {pages}"


def _format_cpu(cpu: Report) -> str:
    at = f" at {cpu['paddr']:#x}" if cpu["paddr"] is not None else ""  # a dump does not say
    if not cpu["notes"]:
        return f"note slot{at} is empty: it never saved its registers"
    if cpu["pid"] is None:
        return f"{counted(cpu['notes'], 'note')}{at}"
    return f"pid {cpu['pid']}, ip {cpu['ip']:#x}, sp {cpu['sp']:#x}"
