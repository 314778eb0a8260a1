"""The findings about a capture, as ``vmcorefs check`` prints them."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.core.findings import MEMORY_MAP, PLACEMENT, Finding, Sureness
from vmcorefs.core.maps.memory_map import MemoryMap
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.placement import FLAT
from vmcorefs.core.space.ranges import Ranges, subtract, total_size
from vmcorefs.core.space.units import format_range, format_size
from vmcorefs.discovery.backup import Backup
from vmcorefs.discovery.explore import TOO_MANY, Explorer
from vmcorefs.discovery.found import FoundKernel
from vmcorefs.discovery.low_memory import LowMemory
from vmcorefs.discovery.plan import Plan
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.notes import CrashNotes
from vmcorefs.sources.dump import DumpFile

_SHOWN = 4


def make_findings(  # one argument per fact
    explorer: Explorer,
    given: MemoryMap | None,
    memory_map: MemoryMap,
    plan: Plan,
    notes: CrashNotes,
    low: LowMemory,
    captured: Extents,
) -> tuple[Finding, ...]:
    """Say everything that was found out.

    Args:
        explorer: Only what it has already worked out is reported.
        given: The memory map that the user gave, if any.
        memory_map: The one in use.
        plan: The headers in use.
        notes: The notes in use.
        low: How low memory was chosen.
        captured: The physical address space in use.
    """
    return (
        _placement(explorer, given, captured),
        _memory_map(explorer, given, memory_map),
        _vmcoreinfo(explorer, plan, notes),
        _kaslr(explorer, notes),
        _headers(plan),
        _notes(notes),
        _low_memory(low.backup, given=low.source is not None),
        *_symbols(explorer),
    )


def make_dump_findings(
    explorer: Explorer, dump: DumpFile, memory_map: MemoryMap, plan: Plan, notes: CrashNotes
) -> tuple[Finding, ...]:
    """Report what a dump says, and what else was found out; the arguments are as above."""
    told = f"as {dump.format} says"
    found = explorer.found if explorer.has_looked else None
    reasons, _ = _support(found)
    size = format_size(total_size(memory_map.ram))
    ram = f"{memory_map.dialect}: {size} of RAM in {len(memory_map.ram)} ranges"
    return (
        Finding(PLACEMENT, told, Sureness.GIVEN, reasons),
        Finding(MEMORY_MAP, ram, Sureness.GIVEN),
        _vmcoreinfo(explorer, plan, notes),
        _kaslr(explorer, notes),
        _headers(plan),
        _notes(notes),
        Finding("low memory", told, Sureness.GIVEN),
        *_symbols(explorer),
    )


def _placement(explorer: Explorer, given: MemoryMap | None, captured: Extents) -> Finding:
    """Where the bytes belong."""
    found = explorer.found if explorer.has_looked else None
    if not explorer.is_movable:
        return Finding(PLACEMENT, "the pieces as they are given", Sureness.GIVEN, *_support(found))
    placement = found.placement if found is not None else None
    if found is not None and placement is not None and found.captured.is_same(captured):
        fits = found.faults == (0, 0)
        sure = Sureness.SURE if fits else Sureness.LIKELY
        return Finding(PLACEMENT, placement.name, sure, *_support(found))
    reasons = (
        (f"the memory map ends at {given.end:#x}, the image at {explorer.size:#x}",)
        if given is not None
        else ()
    )
    against = (
        (f"the kernel's page tables resolve in another: {placement.name}",)
        if placement is not None
        else ()
    )
    return Finding(PLACEMENT, FLAT, Sureness.LIKELY, reasons, against)


def _support(found: FoundKernel | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Evidence from the kernel for and against a placement."""
    if found is None or found.kernel is None:
        return (), ((found.why_not,) if found is not None else ())
    mappings = found.kernel.mappings
    against = [str(problem) for problem in mappings.problems]
    reasons = []
    if not against:
        reasons.append(f"all {mappings.tables} of the kernel's page tables resolve")
    if found.missing is not None and len(found.missing):
        first = format_range(*found.missing[0].tolist())
        size = format_size(total_size(found.missing))
        against.append(f"{size} of the kernel's RAM are not in the image, the first at {first}")
    elif found.missing is not None:
        reasons.append("all RAM of the kernel's own map is in the image")
    return tuple(reasons), tuple(against)


def _memory_map(explorer: Explorer, given: MemoryMap | None, memory_map: MemoryMap) -> Finding:
    """Which memory map is in use, and whether the kernel agrees."""
    size = format_size(total_size(memory_map.ram))
    value = f"{memory_map.dialect}: {size} of RAM in {len(memory_map.ram)} ranges"
    found = explorer.found if explorer.has_looked else None
    read = found.kernel_map if found is not None else None
    if given is not None:
        sure, reasons, against = Sureness.GIVEN, [], []
        if read is not None:
            difference = _describe_difference(memory_map.ram, read.memory_map.ram)
            if difference:
                against.append(f"the kernel's own {read.memory_map.dialect} {difference}")
            else:
                reasons.append(f"the kernel's own {read.memory_map.dialect} has the same RAM")
        return Finding(MEMORY_MAP, value, sure, tuple(reasons), tuple(against))
    if read is None:
        return Finding(MEMORY_MAP, value, Sureness.GUESS, ("its PT_LOADs are RAM",))
    whole = read.memory_map.dialect == "iomem_resource"
    reasons = ["it is the tree that /proc/iomem prints, read from the kernel's memory"]
    if not whole:
        reasons = [f"read from the kernel's {read.memory_map.dialect}"]
    fits = found is not None and found.faults == (0, 0)
    sure = Sureness.SURE if whole and fits else Sureness.LIKELY
    return Finding(MEMORY_MAP, value, sure, tuple(reasons), read.refused)


def _describe_difference(ours: Ranges, theirs: Ranges) -> str:
    parts = []
    for verb, ranges in (("lacks", subtract(ours, theirs)), ("adds", subtract(theirs, ours))):
        if len(ranges):
            shown = ", ".join(format_range(*row) for row in ranges[:_SHOWN].tolist())
            parts.append(f"{verb} {format_size(total_size(ranges))}: {shown}")
    return " and ".join(parts)


def _vmcoreinfo(explorer: Explorer, plan: Plan, notes: CrashNotes) -> Finding:
    """Which VMCOREINFO is in use, and which others there are."""
    vmcoreinfo = notes.vmcoreinfo
    ranking = explorer.ranking if explorer.has_looked else ()
    others = tuple(
        _describe_other(one, ranking)
        for one in ranking
        if vmcoreinfo is None or one.candidate.vmcoreinfo.text != vmcoreinfo.text
    )
    if explorer.has_passed_over:
        others = (*others, TOO_MANY)
    if vmcoreinfo is None:
        return Finding("VMCOREINFO", "", Sureness.NONE, (), others)
    places = [slot.start for slot in notes.slots if slot.is_vmcoreinfo]
    where = f" at {places[-1]:#x}" if places and notes.space is None else ""
    value = f"Linux {vmcoreinfo.release}{where}"
    reasons, against = [], []
    if notes.given and explorer.given is not None:
        return Finding("VMCOREINFO", value, Sureness.GIVEN, (), others)
    if plan.paddr is not None:
        reasons.append("the crash kernel's elfcorehdr points to it")
    elif notes.space is not None and places:
        reasons.append("it is among the notes of the dump")
    for one in ranking:
        if one.candidate.vmcoreinfo.text == vmcoreinfo.text:
            reasons += one.reasons()
            against += one.objections()
    sure = Sureness.SURE if len(reasons) > 1 or plan.paddr is not None else Sureness.LIKELY
    return Finding("VMCOREINFO", value, sure, tuple(reasons), (*against, *others))


def _describe_other(one: FoundKernel, ranking: tuple[FoundKernel, ...]) -> str:
    place = f"{one.note:#x}" if one.note is not None else "a place outside memory"
    why = one.objections()
    if any(one.is_inside_crash_kernel(other) for other in ranking if other is not one):
        why.insert(0, "the capture kernel's own: it is in the crash kernel's range")
    release = one.candidate.vmcoreinfo.release
    return f"another at {place} (Linux {release}): {'; '.join(why) or 'another kernel'}"


def _kaslr(explorer: Explorer, notes: CrashNotes) -> Finding:
    """How far the kernel was moved, in both address spaces."""
    vmcoreinfo = notes.vmcoreinfo
    offset = vmcoreinfo.values.get("KERNELOFFSET") if vmcoreinfo is not None else None
    if vmcoreinfo is None or offset is None:
        return Finding("KASLR offset", "", Sureness.NONE)
    value, reasons = f"0x{offset}", ["VMCOREINFO: KERNELOFFSET"]
    found = explorer.found if explorer.has_looked else None
    if found is None or found.kernel is None:
        return Finding("KASLR offset", value, Sureness.LIKELY, tuple(reasons))
    kernel = found.kernel
    if kernel.direct_map is not None:
        value += f", direct map at {kernel.direct_map:#x}"
    if kernel.text is None:
        return Finding("KASLR offset", value, Sureness.LIKELY, tuple(reasons))
    vaddr, paddr, size = kernel.text
    reasons.append(f"page tables map _text, {vaddr:#x}, to {paddr:#x}, {format_size(size)} on")
    return Finding("KASLR offset", value, Sureness.SURE, tuple(reasons))


def _headers(plan: Plan) -> Finding:
    """Which headers the vmcore is laid out by."""
    if plan.paddr is None and plan.is_built:
        reasons = (f"the headers are {plan.origin}",)
        return Finding("elfcorehdr", "", Sureness.NONE, reasons, plan.warnings)
    sure = Sureness.SURE if plan.paddr is not None else Sureness.GIVEN
    return Finding("elfcorehdr", plan.origin, sure, (), plan.warnings)


def _notes(notes: CrashNotes) -> Finding:
    """How many CPUs saved their registers."""
    slots = notes.cpu_slots
    filled = sum(bool(slot.notes) for slot in slots)
    value = f"{filled} of {len(slots)} CPUs saved their registers" if slots else ""
    sure = Sureness.SURE if filled else Sureness.NONE
    return Finding("crash notes", value, sure, (), notes.warnings)


def _low_memory(backup: Backup | None, *, given: bool) -> Finding:
    """Which copy of low memory is used."""
    if backup is None:
        return Finding("low memory", "as it is in the image", Sureness.LIKELY)
    value = f"{format_range(backup.start, backup.end)} from {backup.origin}"
    return Finding("low memory", value, Sureness.GIVEN if given else Sureness.SURE)


def _symbols(explorer: Explorer) -> Iterator[Finding]:
    """How many symbols the kernel has, if they were read."""
    found = explorer.found if explorer.has_looked else None
    if found is None or found.kernel is None:
        return
    try:
        symbols = found.kernel.symbols
    except VmcorefsError as error:
        yield Finding("kallsyms", "", Sureness.NONE, (), (str(error),))
        return
    yield Finding("kallsyms", f"{len(symbols)} symbols", Sureness.SURE, ("_stext fits VMCOREINFO",))
