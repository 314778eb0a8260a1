"""The findings about a capture, as ``vmcorefs check`` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.findings import MEMORY_MAP, PLACEMENT, Finding, Sureness
from vmcorefs.core.maps.memory_map import MemoryMap
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.placement import FLAT
from vmcorefs.core.space.ranges import Ranges, make_ranges, subtract, total_size
from vmcorefs.core.space.units import counted, format_range, format_size
from vmcorefs.discovery.crash_kernel.backup import Backup
from vmcorefs.discovery.crash_kernel.low_memory import LowMemory
from vmcorefs.discovery.explore import TOO_MANY, Explorer
from vmcorefs.discovery.found import FoundKernel
from vmcorefs.discovery.map_and_placement import FROM_ELFCOREHDR
from vmcorefs.discovery.plan import Plan
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.arch.known import find_architecture
from vmcorefs.kernel.arch.x86_64 import START_KERNEL_MAP
from vmcorefs.kernel.notes import CrashNotes
from vmcorefs.sources.dumps.dump import DumpFile

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
        *_direct_map(explorer, plan),
        _headers(plan, memory_map, notes),
        _notes(plan, notes),
        _low_memory(low.backup, plan, memory_map, given=low.source is not None),
        *_symbols(explorer),
    )


def make_dump_findings(
    explorer: Explorer,
    dump: DumpFile,
    given: MemoryMap | None,
    memory_map: MemoryMap,
    plan: Plan,
    notes: CrashNotes,
) -> tuple[Finding, ...]:
    """Report what a dump says, and what else was found out; the arguments are as above."""
    told = f"as {dump.format} says"
    found = explorer.found if explorer.has_looked else None
    reasons, _ = _support(found)
    size = format_size(total_size(memory_map.ram))
    ram = f"{memory_map.dialect}: {size} of RAM in {counted(len(memory_map.ram), 'range')}"
    map_of_dump = Finding(MEMORY_MAP, ram, Sureness.GIVEN)
    own = found.kernel_map if found is not None else None
    if given is not None or (own is not None and own.memory_map.dialect == memory_map.dialect):
        map_of_dump = _memory_map(explorer, given, memory_map)
    return (
        Finding(PLACEMENT, told, Sureness.GIVEN, reasons),
        map_of_dump,
        _vmcoreinfo(explorer, plan, notes),
        _kaslr(explorer, notes),
        *_direct_map(explorer, plan),
        _headers(plan, memory_map, notes),
        _notes(plan, notes),
        Finding("low memory", told, Sureness.GIVEN),
        *_symbols(explorer),
    )


def _sureness(facts: Sequence[str], contradictions: Sequence[str] = ()) -> Sureness:
    """Sure is what two facts agree on, and nothing contradicts."""
    return Sureness.SURE if len(facts) > 1 and not contradictions else Sureness.LIKELY


def _placement(explorer: Explorer, given: MemoryMap | None, captured: Extents) -> Finding:
    """Where the bytes belong."""
    found = explorer.found if explorer.has_looked else None
    if not explorer.is_movable:
        by = explorer.placed_by
        told = f"as {by} says" if by else "the pieces as they are given"
        return Finding(PLACEMENT, told, Sureness.GIVEN, *_support(found))
    placement = found.placement if found is not None else None
    if found is not None and placement is not None and found.captured.is_same(captured):
        reasons, against = _support(found)
        return Finding(PLACEMENT, placement.name, _sureness(reasons, against), reasons, against)
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
    # no kernel was looked for, or none was found: nothing in the image speaks for it
    sure = Sureness.LIKELY if found is not None else Sureness.GUESS
    return Finding(PLACEMENT, FLAT, sure, reasons, against)


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
    elif found.kernel_map is not None and not found.kernel_map.is_of_page_tables:
        reasons.append("all RAM of the kernel's own map is in the image")
    return tuple(reasons), tuple(against)


def _memory_map(explorer: Explorer, given: MemoryMap | None, memory_map: MemoryMap) -> Finding:
    """Which memory map is in use, and whether the kernel agrees."""
    size = format_size(total_size(memory_map.ram))
    value = f"{memory_map.dialect}: {size} of RAM in {counted(len(memory_map.ram), 'range')}"
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
    if read.memory_map.dialect != "iomem_resource":
        reasons = [f"read from the kernel's {read.memory_map.dialect}"]
        return Finding(MEMORY_MAP, value, Sureness.LIKELY, tuple(reasons), read.refused)
    reasons = ["it is the tree that /proc/iomem prints, read from the kernel's memory"]
    if found is not None and found.faults == (0, 0):
        reasons.append("the image has all of that RAM")
    return Finding(MEMORY_MAP, value, _sureness(reasons), tuple(reasons), read.refused)


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
    others = tuple(_describe_other(one, ranking) for one in ranking if not _is_in_use(one, notes))
    if explorer.has_passed_over:
        others = (*others, TOO_MANY)
    if vmcoreinfo is None:
        return Finding("VMCOREINFO", "", Sureness.NONE, (), others)
    places = [slot.start for slot in notes.slots if slot.is_vmcoreinfo]
    where = f" at {places[-1]:#x}" if places and notes.space is None else ""
    value = f"Linux {vmcoreinfo.release}{where}"
    reasons: list[str] = []
    against: list[str] = []
    contradictions: list[str] = []
    if notes.given and explorer.given is not None:
        return Finding("VMCOREINFO", value, Sureness.GIVEN, (), others)
    if plan.paddr is not None:
        reasons.append("the crash kernel's elfcorehdr points to it")
    elif notes.space is not None and places:
        reasons.append("it is among the notes of the dump")
    for one in ranking:
        if _is_in_use(one, notes):
            reasons += one.reasons()
            against += one.objections()
            contradictions += one.contradictions()
    sure = _sureness(reasons, contradictions)
    # a copy has the time of the crash too
    reasons += [line for one in ranking if _is_in_use(one, notes) for line in one.crash_time()]
    return Finding("VMCOREINFO", value, sure, tuple(reasons), (*against, *others))


def _is_in_use(one: FoundKernel, notes: CrashNotes) -> bool:
    vmcoreinfo = notes.vmcoreinfo
    return vmcoreinfo is not None and one.candidate.vmcoreinfo.text == vmcoreinfo.text


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
    text = found.kernel.text if found is not None and found.kernel is not None else None
    if found is None or found.kernel is None or text is None:
        return Finding("KASLR offset", value, Sureness.LIKELY, tuple(reasons))
    vaddr, paddr, size = text
    shown = f"its image, {vaddr:#x}, to {paddr:#x}, {format_size(size)} on"
    if not _was_linked_at(found.kernel.machine, vaddr, offset):
        against = (
            f"page tables map {shown}: by that offset it was linked for no address it can be",
        )
        return Finding("KASLR offset", value, Sureness.LIKELY, tuple(reasons), against)
    reasons.append(f"page tables map {shown}")
    return Finding("KASLR offset", value, _sureness(reasons), tuple(reasons))


def _was_linked_at(machine: int, vaddr: int, offset: str) -> bool:
    """Whether an image at ``vaddr`` can have been moved this far."""
    try:
        linked = vaddr - int(offset, 16)
    except ValueError:
        return False
    if machine != EM_X86_64:
        return linked >= find_architecture(machine).linked_from
    # CONFIG_PHYSICAL_START above __START_KERNEL_map, aligned to CONFIG_PHYSICAL_ALIGN
    return not linked % (2 << 20) and 0 <= linked - START_KERNEL_MAP < 1 << 30


def _direct_map(explorer: Explorer, plan: Plan) -> Iterator[Finding]:
    """Where all of RAM is mapped."""
    found = explorer.found if explorer.has_looked else None
    if found is None or found.kernel is None:
        return
    direct = found.kernel.direct_map
    if direct.distance is None:
        yield Finding("direct map", "", Sureness.NONE, (), direct.against)
        return
    reasons, against = list(direct.reasons), list(direct.against)
    if not plan.is_built:
        others = _other_distances(plan, direct.distance, found.kernel.image_distance)
        against += (f"the headers have memory at {other:#x}" for other in others[:_SHOWN])
    yield Finding(
        "direct map", f"{direct.distance:#x}", _sureness(reasons, against), tuple(reasons),
        tuple(against),
    )  # fmt: skip


def _other_distances(plan: Plan, direct_map: int, image: int) -> list[int]:
    loads = plan.elfcorehdr.loads
    loads = loads[loads["p_vaddr"] != 0]
    found = set((loads["p_vaddr"] - loads["p_paddr"]).tolist())
    return sorted(found - {direct_map, image % (1 << 64)})


def _headers(plan: Plan, memory_map: MemoryMap, notes: CrashNotes) -> Finding:
    """Which headers the vmcore is laid out by."""
    if plan.paddr is None and plan.is_built:
        reasons: tuple[str, ...] = (f"the headers are {plan.origin}",)
        return Finding("elfcorehdr", "", Sureness.NONE, reasons, plan.warnings)
    if plan.is_given:
        return Finding("elfcorehdr", plan.origin, Sureness.GIVEN, (), plan.warnings)
    facts, against = [], []
    if memory_map.dialect != FROM_ELFCOREHDR:
        difference = _describe_difference(memory_map.crashed_ram, plan.elfcorehdr.ram)
        if difference:
            against.append(f"of the memory map's RAM it {difference}")
        else:
            facts.append("its PT_LOADs are the RAM of the memory map")
    if any(slot.is_vmcoreinfo for slot in notes.slots):
        facts.append("one of its PT_NOTEs is VMCOREINFO")
    sure = _sureness(facts, against)
    return Finding("elfcorehdr", plan.origin, sure, tuple(facts), (*against, *plan.warnings))


def _notes(plan: Plan, notes: CrashNotes) -> Finding:
    """How many CPUs saved their registers."""
    slots = notes.cpu_slots
    filled = sum(bool(slot.notes) for slot in slots)
    value = f"{filled} of {counted(len(slots), 'CPU')} saved their registers" if slots else ""
    if not filled:
        return Finding("crash notes", value, Sureness.NONE, (), notes.warnings)
    if notes.made:
        value = f"the registers of {counted(filled, 'CPU')}, which the kernel did not save"
        reasons: tuple[str, ...] = ("the format of the image has them",)
        return Finding("crash notes", value, Sureness.GIVEN, reasons, notes.warnings)
    if notes.space is not None:
        reasons = ("they are the notes of the dump",)
        return Finding("crash notes", value, Sureness.GIVEN, reasons, notes.warnings)
    who = "the kernel's crash_notes say" if plan.is_built else "the elfcorehdr says"
    reasons = (f"{who} where they are", "what lies there are whole notes")
    sure = _sureness(reasons, notes.warnings)
    return Finding("crash notes", value, sure, reasons, notes.warnings)


def _low_memory(
    backup: Backup | None, plan: Plan, memory_map: MemoryMap, *, given: bool
) -> Finding:
    """Which copy of low memory is used."""
    if backup is None:
        return Finding("low memory", "as it is in the image", Sureness.LIKELY)
    value = f"{format_range(backup.start, backup.end)} from {backup.origin}"
    if given:
        return Finding("low memory", value, Sureness.GIVEN)
    reasons, against = ["a PT_LOAD of the elfcorehdr has its bytes there"], []
    moved, crash_kernel = plan.elfcorehdr.backup, memory_map.crash_kernel
    if moved is not None and len(crash_kernel):
        region = make_ranges([(moved[2], moved[2] + moved[1])])
        if len(subtract(region, crash_kernel)):
            against.append("that is outside the crash kernel's memory")
        else:
            reasons.append("that is in the crash kernel's memory")
    sure = _sureness(reasons, against)
    return Finding("low memory", value, sure, tuple(reasons), tuple(against))


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
    reasons = ("its tables, which VMCOREINFO names, decode", "_stext is where VMCOREINFO has it")
    yield Finding("kallsyms", counted(len(symbols), "symbol"), _sureness(reasons), reasons)
