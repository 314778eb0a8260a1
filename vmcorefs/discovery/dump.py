"""What a dump says about the dead machine; only what it lacks is searched for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from msgspec.structs import replace

from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.elf import ElfHeader
from vmcorefs.core.elf.elfcorehdr import make_elfcorehdr
from vmcorefs.core.elf.machines import EM_NONE
from vmcorefs.core.elf.notes import (
    ERASEINFO,
    NT_ERASEINFO,
    NT_VMCOREINFO,
    ByteOrder,
    Note,
    find_eraseinfo,
    find_vmcoreinfo,
    pack_note,
    walk_notes,
)
from vmcorefs.core.elf.registers import CpuRegisters, decode_prstatus
from vmcorefs.core.elf.vmcoreinfo import NOTE_NAME, Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.maps.memory_map import MemoryMap, map_of_ram, with_crash_kernel
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.ranges import (
    Ranges,
    intersect,
    make_ranges,
    normalise,
    round_out,
    subtract,
)
from vmcorefs.core.space.units import format_range
from vmcorefs.discovery.explore import Explorer
from vmcorefs.discovery.plan import Plan, cpu_slots, image_in_ram, no_vaddrs
from vmcorefs.discovery.vmcoreinfo import vmcoreinfo_in_use
from vmcorefs.errors import ConfigError, FormatError, LayoutError, TruncatedError
from vmcorefs.kernel.notes import CrashNotes, NoteSlot, read_crash_notes
from vmcorefs.reader import Reader
from vmcorefs.sources.dumps.dump import DumpFile
from vmcorefs.system.progress import Progress

_OF_CPU = (b"CORE", b"LINUX")
_QEMU = b"QEMU"
_OF_MAP = "built from what of the dump is RAM by the memory map"

_SHOWN = 4
"""Lines of what makedumpfile has erased that a warning has; inspect --json has all."""


def check_options(config: CaptureConfig, dump: DumpFile) -> None:
    """Refuse options that contradict a dump.

    Raises:
        ConfigError: with the name of the option.
        TruncatedError: if RAM is missing, and ``config.truncated`` is false.
    """
    if config.backup is not None:
        raise ConfigError(
            f"{config.backup.name}: {dump.name} needs no backup: it is {dump.format}, which has low"
            " memory as the crashed kernel had it; leave out --backup"
        )
    if config.elfcorehdr is not None or not config.use_elfcorehdr:
        raise ConfigError(
            f"{dump.name}: {dump.format}, with headers of its own; leave out --elfcorehdr"
        )
    machine = dump.header.e_machine
    if config.machine not in (None, machine) and machine != EM_NONE:
        raise ConfigError(
            f"the machine is given as {config.machine}, but {dump.name} says {machine}"
        )
    if len(dump.missing) and not config.truncated:
        raise TruncatedError(f"{dump.lost}; pass --truncated to serve the rest, and EIO for these")


def with_machine(config: CaptureConfig, dump: DumpFile) -> DumpFile:
    """The dump, with headers of the given machine if it does not say itself which it is."""
    if config.machine is None or dump.header.e_machine != EM_NONE:
        return dump
    return replace(dump, plan=dump.plan.of_machine(config.machine), vmcore=None)


def dump_map(
    config: CaptureConfig, dump: DumpFile, given: MemoryMap | None, explorer: Explorer
) -> tuple[MemoryMap, Ranges]:
    """The memory map, and the RAM that the crashed kernel used of what the dump holds.

    A kernel writes RAM alone to its vmcore. A hypervisor writes all that it has given the machine,
    video memory and firmware too: there the map counts, the given one or the kernel's own.

    Args:
        config: What was asked for: ``crash_kernel``.
        dump: The dump.
        given: The map that the user gave, if any.
        explorer: Asked for the kernel of a hypervisor's dump.

    Raises:
        LayoutError: if the dump of a kernel has RAM that the map lacks, or RAM where the capture
            kernel was; or if nothing in the dump is RAM by the map.
        FormatError: if ``config.crash_kernel`` contradicts the map.
    """
    ram, crash_kernel = dump.plan.ram, make_ranges(config.crash_kernel)
    if _is_of_hypervisor(dump, explorer):
        found = given if given is not None else _own_map(explorer)
        if found is not None:
            found = with_crash_kernel(found, crash_kernel)
            used = intersect(ram, found.crashed_ram)
            if not len(used):
                raise LayoutError(f"{dump.name}: nothing in it is RAM by the memory map")
            return found, used
    return _map_of_vmcore(dump, given, crash_kernel), ram


def _is_of_hypervisor(dump: DumpFile, explorer: Explorer) -> bool:
    """Whether no kernel wrote it: those have VMCOREINFO since 2.6.24, and no notes of QEMU's."""
    return explorer.known is None or any(note.name == _QEMU for note in _iter_notes(dump))


def _own_map(explorer: Explorer) -> MemoryMap | None:
    """The map that the kernel in memory keeps; not one that is only told from its page tables."""
    read = explorer.found.kernel_map if explorer.found is not None else None
    return read.memory_map if read is not None and not read.is_of_page_tables else None


def _map_of_vmcore(dump: DumpFile, given: MemoryMap | None, crash_kernel: Ranges) -> MemoryMap:
    ram = dump.plan.ram
    if given is not None:
        wide = round_out(given.ram, dump.granule)
        beyond, where = subtract(ram, wide), "where the memory map has none"
    else:
        beyond, where = intersect(ram, crash_kernel), "where the crash kernel is said to have been"
    if len(beyond):
        shown = format_range(*beyond[0].tolist())
        raise LayoutError(f"{dump.name}: it has RAM at {shown}, {where}")
    if given is not None:
        return given
    whole = normalise(np.concatenate((ram, crash_kernel))) if len(crash_kernel) else ram
    return with_crash_kernel(map_of_ram(whole, f"the RAM of {dump.format}"), crash_kernel)


def make_explorer(
    config: CaptureConfig, dump: DumpFile, memory: Reader, progress: Progress | None = None
) -> Explorer:
    """Make an explorer of the dump's memory, with the VMCOREINFO of its notes if there is one."""
    text = find_vmcoreinfo(tuple(_iter_notes(dump))) or dump.vmcoreinfo
    # QEMU calls a machine whose CPUs are in real mode i386, so VMCOREINFO comes first
    return Explorer(
        config,
        memory.sources,
        memory.table,
        progress,
        known=parse_vmcoreinfo(text) if text is not None else None,
        placed_by=dump.format,
    )


def _iter_notes(dump: DumpFile) -> Iterator[Note]:
    for segment in dump.notes:
        yield from walk_notes(segment.data, dump.header.byte_order).notes


def find_dump_plan(config: CaptureConfig, dump: DumpFile, ram: Ranges, explorer: Explorer) -> Plan:
    """Use the dump's headers, unless they lack facts that the kernel or the map has.

    QEMU's dump-guest-memory alone knows neither VMCOREINFO nor virtual addresses: its vmcore is
    then laid out again with those of the kernel that is found in memory. ``ram`` is what
    ``dump_map`` says.

    Raises:
        ConfigError: if a VMCOREINFO is given but cannot be read.
        SourceIOError: if the dump cannot be read.
    """
    origin = f"those of {dump.format}"
    as_it_is = Plan(dump.plan, origin, is_given=True, warnings=tuple(_machine_warnings(dump)))
    is_all = np.array_equal(ram, dump.plan.ram)
    if is_all and dump.has_vaddrs and (explorer.known is not None or not config.use_vmcoreinfo):
        return as_it_is
    kernel = explorer.found.kernel if explorer.found is not None else None
    if kernel is None and is_all:
        return as_it_is
    header = dump.header
    if kernel is None:
        elfcorehdr = make_elfcorehdr(
            ram,
            e_machine=header.e_machine,
            byte_order=header.byte_order,
            elf_class=header.elf_class,
        )
        return replace(as_it_is, elfcorehdr=elfcorehdr, origin=_OF_MAP, is_built=True)
    elfcorehdr = make_elfcorehdr(
        ram,
        e_machine=kernel.machine,
        byte_order=kernel.byte_order,
        text=image_in_ram(kernel, ram),
        direct_map=kernel.direct_map.distance,
    )
    origin = "built from the RAM of the dump and the kernel's own data"
    doubt = no_vaddrs(kernel)
    return Plan(elfcorehdr, origin, is_built=True, warnings=(doubt,) if doubt else ())


def _machine_warnings(dump: DumpFile) -> Iterator[str]:
    if dump.header.e_machine == EM_NONE:
        told = f"it does not say which machine it is of ({dump.machine!r})"
        yield f"{dump.name}: {told}: pass --machine"


def find_dump_notes(
    config: CaptureConfig, dump: DumpFile, explorer: Explorer, memory: Reader, header: ElfHeader
) -> CrashNotes:
    """The dump's notes, a slot per CPU; and VMCOREINFO, found in memory if they lack it.

    Args:
        config: What was asked for.
        dump: The dump.
        explorer: Asked for VMCOREINFO.
        memory: The dump's, by physical address.
        header: Of the vmcore. If its byte order is another than the dump's, no note of that can be
            in it: what is in them is for ``registers_of``.

    Raises:
        FormatError: if a note is torn, and ``config.drop_torn_notes`` is false.
        ConfigError: if a VMCOREINFO is given but cannot be read.
        SourceIOError: if the dump cannot be read.
    """
    slots: list[NoteSlot] = []
    warnings: list[str] = []
    for segment in dump.notes:
        walk = walk_notes(segment.data, dump.header.byte_order)
        if walk.torn:
            message = f"{dump.name}: {walk.torn}"
            if not config.drop_torn_notes:
                raise FormatError(f"{message}; pass --drop-torn-notes to leave it out")
            warnings.append(message)
        slots += cut_into_slots(segment.data, segment.offset, walk.notes, walk.size)
    vmcoreinfo = _other_vmcoreinfo(config, dump, explorer, memory)
    given, order = b"", header.byte_order
    if order != dump.header.byte_order:
        slots = []
    space: Extents | None = dump.notes_in
    has_cpus = any(slot.is_cpu for slot in slots) or registers_of(dump, order) != dump.cpus
    saved = () if has_cpus else _saved_registers(explorer, memory)
    if saved:  # in memory, where nothing of the dump's own notes is
        vmcoreinfo = vmcoreinfo or explorer.known
        slots, space = list(saved), None
    if vmcoreinfo is not None:
        slots = [slot for slot in slots if not slot.is_vmcoreinfo]
        given = pack_note(NOTE_NAME, NT_VMCOREINFO, vmcoreinfo.text, order)
    if dump.eraseinfo:
        given += pack_note(ERASEINFO, NT_ERASEINFO, dump.eraseinfo, order)
    return CrashNotes(
        slots=tuple(slots),
        vmcoreinfo=vmcoreinfo or explorer.known,
        given=given,
        eraseinfo=find_eraseinfo(tuple(_iter_notes(dump))) + dump.eraseinfo,
        warnings=tuple(warnings),
        space=space,
    )


def registers_of(dump: DumpFile, byte_order: ByteOrder) -> CpuRegisters | None:
    """The registers that the dump has in another form than as notes of this byte order.

    QEMU writes headers and notes of a little-endian pSeries in big-endian order
    (target/ppc/arch_dump.c, ``cpu_get_dump_info``).
    """
    header = dump.header
    if header.byte_order == byte_order:
        return dump.cpus
    states = (decode_prstatus(n, header.e_machine, header.byte_order) for n in _iter_notes(dump))
    cpus = tuple(state.registers for state in states if state is not None)
    return CpuRegisters(header.e_machine, cpus) if cpus else dump.cpus


def _saved_registers(explorer: Explorer, memory: Reader) -> tuple[NoteSlot, ...]:
    """What the CPUs saved in memory when the kernel crashed; empty if none of them did."""
    kernel = explorer.found.kernel if explorer.found is not None else None
    if kernel is None:
        return ()
    slots, _ = cpu_slots(kernel)
    headers = make_elfcorehdr(make_ranges([]), e_machine=kernel.machine, notes=slots)
    found = read_crash_notes(memory, headers, drop_torn=True, drop_missing=True).slots
    return found if any(slot.is_cpu for slot in found) else ()


def describe_erased(notes: CrashNotes) -> Iterator[str]:
    """A warning, if makedumpfile has erased something."""
    lines = notes.erased
    if lines:
        shown = ", ".join(map(ascii, lines[:_SHOWN]))
        more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        yield (
            f"makedumpfile has erased data in the dump: {shown}{more}; what stands there now is not"
            " the kernel's own"
        )


def _other_vmcoreinfo(
    config: CaptureConfig, dump: DumpFile, explorer: Explorer, memory: Reader
) -> Vmcoreinfo | None:
    """The VMCOREINFO that is given, or found in memory; not one from the dump's notes."""
    if config.vmcoreinfo is not None:
        return vmcoreinfo_in_use(explorer.given, memory)
    if explorer.known is not None:
        return explorer.known if dump.vmcoreinfo is not None else None
    return explorer.found.candidate.vmcoreinfo if explorer.found is not None else None


def cut_into_slots(
    data: bytes, offset: int, notes: tuple[Note, ...], size: int
) -> Iterator[NoteSlot]:
    """Cut merged notes back into note buffers, as far as possible.

    A CPU's begins with its NT_PRSTATUS. Device dumps, VMCOREINFO and QEMU's notes are not a CPU's.

    Args:
        data: The bytes that contain the notes.
        offset: Where they begin in the dump.
        notes: The notes, in order.
        size: Bytes that they take.
    """
    cuts = [
        number
        for number, (before, note) in enumerate(zip((None, *notes), notes, strict=False))
        if before is None
        or note.is_prstatus
        or not (before.name in _OF_CPU and note.name in _OF_CPU)
    ]
    ends = [*(notes[number].offset for number in cuts[1:]), size]
    for (first, after), end in zip(pairwise([*cuts, len(notes)]), ends, strict=False):
        start = notes[first].offset
        inside = tuple(replace(note, offset=note.offset - start) for note in notes[first:after])
        is_cpu = any(note.is_prstatus for note in inside)
        yield NoteSlot(offset + start, data[start:end], inside, end - start, may_be_cpu=is_cpu)
