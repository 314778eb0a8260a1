"""The headers by which the vmcore is laid out: an elfcorehdr if there is one, else built ones."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr, make_elfcorehdr
from vmcorefs.core.elf.machines import usual_byte_order
from vmcorefs.core.maps.memory_map import MemoryMap
from vmcorefs.core.space.ranges import Ranges, intersect, make_ranges, subtract, total_size
from vmcorefs.core.structures.crash_notes import find_slots, slot_size
from vmcorefs.discovery.crash_kernel.elfcorehdr import (
    Found,
    Search,
    examine_places,
    read_elfcorehdr,
    search_elfcorehdr,
)
from vmcorefs.discovery.crash_kernel.told_elfcorehdr import find_segments
from vmcorefs.discovery.explore import Explorer
from vmcorefs.discovery.found import FoundKernel
from vmcorefs.discovery.search.scan import locate_all
from vmcorefs.errors import ConfigError, FaultError, FormatError, LayoutError, VmcorefsError
from vmcorefs.kernel.arch.known import machine_of
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reader import Reader
from vmcorefs.sources.unreadable import LookedAt


class Plan(msgspec.Struct, frozen=True):
    """The headers by which the vmcore is laid out.

    Attributes:
        elfcorehdr: Found, given, or built from the memory map.
        origin: Where they come from, for people.
        paddr: Where it is in memory; None if it is not there.
        is_built: Whether they were built because there is no elfcorehdr.
        is_given: Whether the user gave them, or their address, or they are a dump's own.
        warnings: What a person should know about the choice.
    """

    elfcorehdr: Elfcorehdr
    origin: str
    paddr: int | None = None
    is_built: bool = False
    is_given: bool = False
    warnings: tuple[str, ...] = ()


def find_plan(
    config: CaptureConfig, memory: Reader, memory_map: MemoryMap, explorer: Explorer
) -> Plan:
    """Choose the headers: given as the map, given by address, found in memory, or built.

    Args:
        config: What was asked for.
        memory: The captured memory, by physical address.
        memory_map: The map in use.
        explorer: Used only if the headers must be built.

    Raises:
        FormatError: if the elfcorehdr that is given, or the only one that is found, has impossible
            values; or if several different ones are found.
        ConfigError: if ``config.machine`` contradicts it.
        LayoutError: if the kernel that is found does not fit the placement of the bytes.
        SourceIOError: if the image cannot be read.
    """
    plan, lost = _choose(config, memory, memory_map, explorer)
    if plan is None:
        _refuse_contradiction(config, memory, explorer.found)
        plan = build_plan(config, memory_map, explorer.found)
        plan = replace(plan, warnings=(*lost, *plan.warnings))
    machine = plan.elfcorehdr.header.e_machine
    if config.machine not in (None, machine):
        raise ConfigError(
            f"the machine is given as {config.machine}, but {plan.origin} says {machine}"
        )
    return plan


def _refuse_contradiction(config: CaptureConfig, memory: Reader, found: FoundKernel | None) -> None:
    """Refuse a memory map if it implies a placement in which the page tables do not resolve."""
    if found is None or found.placement is None or found.captured.is_same(memory.table):
        return
    path = config.images[0].name
    raise LayoutError(
        f"{path}: by the memory map its offsets are physical addresses, but the kernel's page"
        f" tables resolve in another placement: {found.placement.name}; leave out --map"
    )


def _choose(
    config: CaptureConfig, memory: Reader, memory_map: MemoryMap, explorer: Explorer
) -> tuple[Plan | None, tuple[str, ...]]:
    """The headers that are given or found, if there are any; and why one of them is not used."""
    if not config.use_elfcorehdr:
        return None, ()
    if config.elfcorehdr is not None:
        return _read(memory, config.elfcorehdr), ()
    if memory_map.elfcorehdr is not None:
        origin = "the elfcorehdr given as the memory map"
        return Plan(memory_map.elfcorehdr, origin, is_given=True), ()
    # with a map that lacks the crash kernel's ranges, all RAM has to be searched
    where = memory_map.crash_kernel if len(memory_map.crash_kernel) else memory_map.ram
    loaded = _loaded(explorer, memory_map)
    search = examine_places(memory, loaded or (), memory_map.ram)
    if not search.found and explorer.has_scanned:  # memory is scanned only once
        places = _located(explorer, memory, where)
        search = examine_places(memory, places, memory_map.ram)
    elif not search.found and loaded != []:
        search = search_elfcorehdr(memory, where, memory_map.ram)
    if search.found:
        chosen = only_elfcorehdr(search)
        refused = tuple(f"elfcorehdr at {paddr:#x} refused: {why}" for paddr, why in search.refused)
        origin = f"the elfcorehdr found at {chosen.paddr:#x}"
        return Plan(chosen.elfcorehdr, origin, chosen.paddr, warnings=refused), ()
    if search.refused:
        paddr, why = search.refused[0]
        raise FormatError(
            f"the elfcorehdr at {paddr:#x} is not valid: {why}; pass --elfcorehdr none to build the"
            " headers from the memory map"
        )
    return None, tuple(_describe_lost(memory, memory_map, search))


def _describe_lost(memory: Reader, memory_map: MemoryMap, search: Search) -> Iterator[str]:
    """What follows if there was an elfcorehdr that is lost."""
    for paddr, why in search.lost:
        yield f"the elfcorehdr at {paddr:#x} is not used: {why}"
    crash_kernel = memory_map.crash_kernel
    unread = any(isinstance(one, LookedAt) and one.has_bad for one in memory.sources)
    if len(crash_kernel) and (unread or len(subtract(crash_kernel, memory.table.ranges))):
        yield (
            "no elfcorehdr was found, and not all of the crash kernel's memory could be looked at:"
            " if a capture kernel has run, low memory may be what that left there (--backup)"
        )


def _loaded(explorer: Explorer, memory_map: MemoryMap) -> list[int] | None:
    """Where the kernel that was found has loaded its crash kernel; None if nobody can tell."""
    found = explorer.found if explorer.has_looked else None
    if found is None or found.kernel is None:
        return None
    return find_segments(found.kernel, memory_map.crash_kernel)


def _located(explorer: Explorer, memory: Reader, where: Ranges) -> list[int]:
    """The physical addresses in ``where`` at which a scan found the ELF magic, in order."""
    paddrs = np.array(sorted(locate_all(memory.table, explorer.hits.elf)), dtype=np.int64)
    row = np.searchsorted(where[:, 0], paddrs, side="right") - 1
    inside: list[int] = paddrs[(row >= 0) & (paddrs < where[row, 1])].tolist()
    return inside


def _read(memory: Reader, paddr: int) -> Plan:
    try:
        found = read_elfcorehdr(memory, paddr)
    except (FormatError, FaultError) as error:
        raise FormatError(f"no elfcorehdr at {paddr:#x}: {error}") from error
    return Plan(found.elfcorehdr, f"the elfcorehdr given at {paddr:#x}", paddr, is_given=True)


def only_elfcorehdr(search: Search) -> Found:
    """The elfcorehdr that was found, if it is the only one.

    Raises:
        FormatError: if several different ones were found.
    """
    # the crashed kernel may keep a copy of the one it loaded: equal bytes count as one
    different = {found.raw: found for found in reversed(search.found)}
    if len(different) > 1:
        places = ", ".join(f"{found.paddr:#x}" for found in search.found)
        raise FormatError(
            f"{len(different)} different elfcorehdrs, at {places}: a crash kernel was loaded more"
            " than once; pass --elfcorehdr with the address in the capture kernel's command line"
        )
    return search.found[0]


def build_plan(config: CaptureConfig, memory_map: MemoryMap, found: FoundKernel | None) -> Plan:
    """Build headers: RAM from the map; addresses and note buffers from the kernel, if it was found.

    Raises:
        SourceIOError: if the image cannot be read.
    """
    kernel = found.kernel if found is not None else None
    if found is None or kernel is None:
        told = machine_of(found.candidate.vmcoreinfo) if found is not None else None
        machine, origin = config.machine or told, "built from the memory map"
        if machine is None:
            machine, origin = EM_X86_64, f"{origin}, for x86-64 (assumed; --machine)"
        notes = _vmcoreinfo_slot(found)
        elfcorehdr = make_elfcorehdr(
            memory_map.crashed_ram,
            e_machine=machine,
            byte_order=usual_byte_order(machine),
            notes=notes,
        )
        return Plan(elfcorehdr, origin, is_built=True)
    slots, no_slots = cpu_slots(kernel)
    elfcorehdr = make_elfcorehdr(
        memory_map.crashed_ram,
        e_machine=kernel.machine,
        byte_order=kernel.byte_order,
        notes=(*slots, *_vmcoreinfo_slot(found)),
        text=image_in_ram(kernel, memory_map.ram),
        direct_map=kernel.direct_map.distance,
    )
    return Plan(
        elfcorehdr,
        "built from the memory map and the kernel's own data",
        is_built=True,
        warnings=tuple(filter(None, (no_slots, no_vaddrs(kernel)))),
    )


def image_in_ram(kernel: Kernel, ram: Ranges) -> tuple[int, int, int] | None:
    """The kernel's image, if it is in RAM: a wrong symbol must not look like missing RAM."""
    if kernel.text is None:
        return None
    _, paddr, size = kernel.text
    held = intersect(ram, make_ranges([(paddr, paddr + size)]))
    return kernel.text if total_size(held) == size else None


def no_vaddrs(kernel: Kernel) -> str:
    """Why headers that are built have no virtual address of RAM; empty if they have."""
    direct = kernel.direct_map
    if direct.distance is not None:
        return ""
    return f"p_vaddr of RAM is 0, as its place is not known: {'; '.join(direct.against)}"


def _vmcoreinfo_slot(found: FoundKernel | None) -> tuple[tuple[int, int], ...]:
    if found is None or found.note is None:
        return ()
    return ((found.note, found.candidate.note_size),)


def cpu_slots(kernel: Kernel) -> tuple[list[tuple[int, int]], str]:
    """Physical address and size of each CPU's note buffer, or why there are none."""
    try:
        size = slot_size(kernel.machine)
        if size is None:
            raise FormatError(f"the notes of machine {kernel.machine} are not known")
        vaddrs = np.array(find_slots(kernel.virtual, kernel.symbols), dtype=np.uint64)
        paddrs = kernel.mappings.translate_many(vaddrs)
        if paddrs.min() < 0:
            raise FormatError("crash_notes is at addresses that are not mapped")
    except VmcorefsError as error:
        return [], f"no CPU's crash notes: {error}"
    return [(paddr, size) for paddr in paddrs.tolist()], ""
