"""Which headers the vmcore is laid out by: an elfcorehdr if there is one, else the memory map."""

from __future__ import annotations

from dataclasses import dataclass

from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf import EM_X86_64
from vmcorefs.core.elfcorehdr import Elfcorehdr, make_elfcorehdr
from vmcorefs.core.memory_map import MemoryMap
from vmcorefs.discovery.elfcorehdr import Found, Search, read_elfcorehdr, search_elfcorehdr
from vmcorefs.errors import ConfigError, FaultError, FormatError
from vmcorefs.reader import Reader


@dataclass(frozen=True, slots=True)
class Plan:
    """The headers that the vmcore is laid out by.

    Attributes:
        elfcorehdr: Found, given, or built from the memory map.
        origin: Which of these, for people.
        paddr: Where it lies in memory; None if it does not.
        warnings: What a person should know of the choice.
    """

    elfcorehdr: Elfcorehdr
    origin: str
    paddr: int | None = None
    warnings: tuple[str, ...] = ()


def find_plan(config: CaptureConfig, memory: Reader, memory_map: MemoryMap) -> Plan:
    """Choose the headers: given as the map, given by address, found in memory, or built.

    Args:
        config: What was asked for.
        memory: The captured memory, by physical address.
        memory_map: The map in use.

    Raises:
        FormatError: if the elfcorehdr that is given, or the only one that is found, is not sane; or
            if several different ones are found.
        ConfigError: if ``config.machine`` contradicts it.
        SourceIOError: if the image cannot be read.
    """
    plan = _choose(config, memory, memory_map)
    machine = plan.elfcorehdr.header.e_machine
    if config.machine not in (None, machine):
        raise ConfigError(
            f"the machine is given as {config.machine}, but {plan.origin} says {machine}"
        )
    return plan


def _choose(config: CaptureConfig, memory: Reader, memory_map: MemoryMap) -> Plan:
    if not config.use_elfcorehdr:
        return _build(config, memory_map)
    if config.elfcorehdr is not None:
        return _read(memory, config.elfcorehdr)
    if memory_map.elfcorehdr is not None:
        return Plan(memory_map.elfcorehdr, "the elfcorehdr given as the memory map")
    # a map that does not know the crash kernel's ranges leaves all RAM to look through
    where = memory_map.crash_kernel if len(memory_map.crash_kernel) else memory_map.ram
    search = search_elfcorehdr(memory, where, memory_map.ram)
    if search.found:
        chosen = _the_one(search)
        refused = tuple(f"elfcorehdr at {paddr:#x} refused: {why}" for paddr, why in search.refused)
        return Plan(
            chosen.elfcorehdr, f"the elfcorehdr found at {chosen.paddr:#x}", chosen.paddr, refused
        )
    if search.refused:
        paddr, why = search.refused[0]
        raise FormatError(
            f"the elfcorehdr at {paddr:#x} is not sane: {why}; pass --elfcorehdr none to build the"
            " headers from the memory map"
        )
    return _build(config, memory_map)


def _read(memory: Reader, paddr: int) -> Plan:
    try:
        found = read_elfcorehdr(memory, paddr)
    except (FormatError, FaultError) as error:
        raise FormatError(f"no elfcorehdr at {paddr:#x}: {error}") from error
    return Plan(found.elfcorehdr, f"the elfcorehdr given at {paddr:#x}", paddr)


def _the_one(search: Search) -> Found:
    # the crashed kernel may keep a copy of what it loaded: the same bytes are the same plan
    different = {found.raw: found for found in reversed(search.found)}
    if len(different) > 1:
        places = ", ".join(f"{found.paddr:#x}" for found in search.found)
        raise FormatError(
            f"{len(different)} different elfcorehdrs, at {places}: a crash kernel was loaded more"
            " than once; pass --elfcorehdr with the address in the capture kernel's command line"
        )
    return search.found[0]


def _build(config: CaptureConfig, memory_map: MemoryMap) -> Plan:
    if config.machine is None:
        machine, origin = EM_X86_64, "built from the memory map, for x86-64 (assumed; --machine)"
    else:
        machine, origin = config.machine, "built from the memory map"
    return Plan(make_elfcorehdr(memory_map.crashed_ram, e_machine=machine), origin)
