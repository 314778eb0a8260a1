"""The composition root: what is known of the dead machine, put together from its inputs.

Read this second, after ``core/space/extents.py``. Everything is worked out here, once; what comes
after (``tree/``) only lays it out.
"""

from __future__ import annotations

from contextlib import ExitStack

import msgspec
import numpy as np
from msgspec.structs import replace

from vmcorefs.config import CaptureConfig
from vmcorefs.core.findings import Finding
from vmcorefs.core.formats.kdump.headers import KdumpHeaders
from vmcorefs.core.maps.memory_map import MemoryMap, with_crash_kernel
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.ranges import Ranges, normalise, subtract
from vmcorefs.core.space.units import PAGE_SIZE
from vmcorefs.discovery.crash_kernel.backup import Backup
from vmcorefs.discovery.crash_kernel.low_memory import find_low_memory
from vmcorefs.discovery.dump import (
    check_options,
    describe_erased,
    dump_map,
    find_dump_notes,
    find_dump_plan,
    make_explorer,
    registers_of,
    with_machine as dump_with_machine,
)
from vmcorefs.discovery.explore import Explorer
from vmcorefs.discovery.findings import make_dump_findings, make_findings
from vmcorefs.discovery.map_and_placement import find_map_and_placement
from vmcorefs.discovery.missing import describe_missing, summarise_missing
from vmcorefs.discovery.placed import refuse_loss, refuse_missing, with_machine
from vmcorefs.discovery.plan import Plan, find_plan
from vmcorefs.discovery.unreadable import describe_unreadable, telling_unreadable
from vmcorefs.discovery.vmcoreinfo import vmcoreinfo_in_use
from vmcorefs.errors import FormatError, TruncatedError
from vmcorefs.kernel.debug.installed import Vmlinux, check_vmlinux, read_vmlinux
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.notes import CrashNotes, read_crash_notes, with_registers
from vmcorefs.kernel.pages import KernelPages
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource, Source
from vmcorefs.sources.dumps.dump import DumpFile
from vmcorefs.sources.file import FileSource
from vmcorefs.sources.input import Input, file_of
from vmcorefs.sources.registry import RawMemory, open_inputs
from vmcorefs.sources.unreadable import LookedAt, look_at
from vmcorefs.sources.wrappers.unwrap import Unwrapping
from vmcorefs.system.progress import Progress, untold


class MemoryImage(msgspec.Struct, frozen=True):
    """Everything known of the dead machine.

    Attributes:
        config: What was asked for.
        sources: The opened inputs, and a note that was given; ``source`` columns index them.
        memory_map: The map in use, crash kernel's ranges included where they are known.
        captured: The physical address space as the image holds it.
        memory: The same as the crashed kernel left it: the backup lies over low memory.
        plan: The headers that the vmcore is laid out by.
        notes: The crashed kernel's notes.
        missing: RAM of the crashed kernel that no input holds, a normal set; not empty only with
            ``config.truncated``.
        kernel: The kernel that crashed, to be asked; None if it is not known which one it is.
        no_kernel: Why there is no ``kernel``; empty if there is one.
        log: The kernel's log as text, or None if it cannot be decoded.
        backup: The saved low memory in use, or None.
        warnings: What a person should know, a line each.
        findings: What was worked out rather than given, how, and how sure it is.
        vmcore: The table of the vmcore, where the image is one and is shown as it stands.
        kdump: The headers of the image, where it is kdump-compressed.
        looked: The sources as the kernel in them is looked at.
    """

    config: CaptureConfig
    sources: tuple[Source, ...]
    memory_map: MemoryMap
    captured: Extents
    memory: Extents
    plan: Plan
    notes: CrashNotes
    missing: Ranges
    kernel: Kernel | None = None
    no_kernel: str = ""
    log: bytes | None = None
    backup: Backup | None = None
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    vmcore: Extents | None = None
    kdump: KdumpHeaders | None = None
    looked: tuple[LookedAt, ...] = ()

    @property
    def time(self) -> float:
        """When the machine died, in seconds since 1970: CRASHTIME, or else the image's mtime."""
        crash_time = self.notes.vmcoreinfo.crash_time if self.notes.vmcoreinfo else None
        return float(crash_time) if crash_time is not None else self.inputs[0].mtime

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The files and devices that the sources read: the images, then the backup."""
        files = map(file_of, self.sources)
        # once each: a dump's notes are in the file that its pages are in
        return tuple(dict.fromkeys(file for file in files if file is not None))

    @property
    def page_size(self) -> int:
        """Bytes in a page of the crashed kernel, as far as is known."""
        vmcoreinfo = self.notes.vmcoreinfo
        return vmcoreinfo.page_size if vmcoreinfo else PAGE_SIZE

    @property
    def pages(self) -> KernelPages:
        """What each page of the dead machine was used for.

        Raises:
            FormatError: if that cannot be told: there is no VMCOREINFO, or it leads to no page
                array.
            SourceIOError: if an input cannot be read.
        """
        if self.kernel is None:
            raise FormatError("cannot tell what pages were used for without VMCOREINFO")
        return self.kernel.pages

    def take_unreadable(self) -> tuple[str, ...]:
        """What could not be read so far and was not told yet, a line each; later there may be more.

        It is taken for absent memory wherever the dead machine is looked at.
        """
        return describe_unreadable(self.looked, self.memory)

    @property
    def is_live(self) -> bool:
        """Whether the machine still runs, so that its memory changes."""
        return any(isinstance(one, FileSource) and one.is_live for one in self.inputs)

    def held_by(self, file: Input) -> Extents:
        """What one of the ``inputs`` holds of ``memory``."""
        numbers = [n for n, source in enumerate(self.sources) if file_of(source) is file]
        return self.memory.rows(np.isin(self.memory.source, numbers))

    def close(self) -> None:
        """Close every input."""
        for source in self.sources:
            source.close()


def open_image(
    config: CaptureConfig,
    *,
    thorough: bool = False,
    progress: Progress | None = None,
    unwrapping: Progress = untold,
) -> MemoryImage:
    """Open the inputs and work out everything that can be known of them.

    Args:
        config: What was asked for.
        thorough: Look through all of the memory, even if the map and an elfcorehdr are enough:
            ``findings`` then say what supports and what contradicts them.
        progress: Told how far looking through the memory is, where that is done.
        unwrapping: Told how far making the index of a compressed input is, where that is done.

    Raises:
        ConfigError: if something asked for is impossible, or an input cannot be opened.
        FormatError: if an input is not what it should be.
        LayoutError: if ranges contradict each other.
        TruncatedError: if RAM is missing, and ``config.truncated`` is false.
        SourceIOError: if an input cannot be read.
    """
    vmlinux = read_vmlinux(config.vmlinux) if config.vmlinux is not None else None
    given = _load_map(config)
    inputs = open_inputs(
        config.images,
        ram_end=given.end if given else None,
        how=Unwrapping(config.truncated, unwrapping),
        far=config.far,
        pause=config.pause,
    )
    if isinstance(inputs, DumpFile):
        try:
            return _open_dump(config, inputs, given, vmlinux, thorough=thorough, progress=progress)
        except BaseException:
            inputs.close()
            raise
    with ExitStack() as stack:
        images, looked, placed = inputs.sources, inputs.looked, inputs.placed
        for source in images:
            stack.callback(source.close)
        if placed is not None:
            refuse_loss(config, placed)
        config = with_machine(config, placed)
        placed_by = placed.format if placed is not None else ""
        stack.enter_context(telling_unreadable(looked, inputs.captured))
        explorer = Explorer(config, looked, inputs.captured, progress, placed_by=placed_by)
        if thorough:
            explorer.look()
        memory_map, captured = find_map_and_placement(config, given, placed, explorer, looked)
        reader = Reader("memory", captured, looked)
        plan = find_plan(config, reader, memory_map, explorer)
        memory_map = _add_crash_kernel(memory_map, plan)
        low = find_low_memory(config, reader, plan, memory_map)
        sources: tuple[Source, ...] = images
        if low.source is not None:
            stack.callback(low.source.close)
            sources, looked = (*images, low.source), (*looked, LookedAt(low.source))
        missing = _find_missing(config, inputs, low.memory, memory_map, plan, explorer)
        crashed = Reader("memory", low.memory, looked)
        notes = read_crash_notes(
            crashed,
            plan.elfcorehdr,
            drop_torn=config.drop_torn_notes,
            drop_missing=config.truncated,
            given=vmcoreinfo_in_use(explorer.given, crashed),
        )
        if placed is not None:
            header = plan.elfcorehdr.header
            notes = with_registers(notes, placed.cpus, header, len(sources))
        image = MemoryImage(
            config=config,
            sources=sources,
            memory_map=memory_map,
            captured=captured,
            memory=low.memory,
            plan=plan,
            notes=notes,
            backup=low.backup,
            missing=missing,
            warnings=(*inputs.warnings, *plan.warnings, *low.warnings),
            findings=make_findings(explorer, given, memory_map, plan, notes, low, captured),
            looked=looked,
        )
        image = _with_kernel(image, explorer, vmlinux)
        stack.pop_all()
    return image


def _load_map(config: CaptureConfig) -> MemoryMap | None:
    if config.memory_map is None:
        return None
    # here: most images are opened without one
    from vmcorefs.discovery.given_map import load_map  # noqa: PLC0415

    return load_map(config.memory_map, config)


def _open_dump(
    config: CaptureConfig,
    dump: DumpFile,
    given: MemoryMap | None,
    vmlinux: Vmlinux | None,
    *,
    thorough: bool,
    progress: Progress | None,
) -> MemoryImage:
    """Put together what a dump says itself; the errors are those of ``open_image``."""
    check_options(config, dump)
    dump = dump_with_machine(config, dump)
    looked = look_at(dump.sources)
    memory = Reader("memory", dump.memory, looked)
    with telling_unreadable(looked, dump.memory):
        explorer = make_explorer(config, dump, memory, progress)
        if thorough:
            explorer.look()
        memory_map, ram = dump_map(config, dump, given, explorer)
        plan = find_dump_plan(config, dump, ram, explorer)
        header = plan.elfcorehdr.header
        notes = find_dump_notes(config, dump, explorer, memory, header)
        cpus = registers_of(dump, header.byte_order)
        notes = with_registers(notes, cpus, header, len(dump.sources))
    as_it_is = config.layout == "kernel" and not (plan.is_built or notes.given or notes.made)
    image = MemoryImage(
        config=config,
        sources=dump.sources,
        memory_map=memory_map,
        captured=dump.memory,
        memory=dump.memory,
        plan=plan,
        notes=notes,
        missing=dump.missing,
        warnings=(*dump.warnings, *plan.warnings, *describe_erased(notes)),
        findings=make_dump_findings(explorer, dump, given, memory_map, plan, notes),
        vmcore=dump.vmcore if as_it_is else None,
        kdump=dump.headers,
        looked=looked,
    )
    return _with_kernel(image, explorer, vmlinux)


def _with_kernel(image: MemoryImage, explorer: Explorer, vmlinux: Vmlinux | None) -> MemoryImage:
    """The image with its kernel, what that says, and the warnings that follow.

    Raises:
        FormatError: if ``vmlinux`` is of another machine or another build.
    """
    sources, notes, missing = image.sources, image.notes, image.missing
    kernel, no_kernel = _find_kernel(image, explorer)
    log, no_log = kernel.log if kernel is not None else (None, "")
    not_verified = check_vmlinux(vmlinux, image.plan.elfcorehdr.header, kernel)
    if notes.made:
        sources = (*sources, BytesSource("registers that the image has of its CPUs", notes.made))
    if notes.given:
        sources = (*sources, BytesSource("notes that were added", notes.given))
    return replace(
        image,
        sources=sources,
        kernel=kernel,
        no_kernel=no_kernel,
        log=log,
        warnings=(
            *image.warnings,
            *notes.warnings,
            *(line for line in (no_log, not_verified) if line),
            *([f"{summarise_missing(missing)}: reading them fails"] if len(missing) else ()),
            *(_doubt(one) for one in image.findings if one.is_doubtful),
            *image.take_unreadable(),
        ),
    )


def _find_kernel(image: MemoryImage, explorer: Explorer) -> tuple[Kernel | None, str]:
    """The kernel that crashed: the one that was found, if its memory is the same; or why not."""
    vmcoreinfo, elfcorehdr = image.notes.vmcoreinfo, image.plan.elfcorehdr
    if vmcoreinfo is None:
        return None, "there is no VMCOREINFO note"
    memory = Reader("memory", image.memory, image.looked)
    machine = elfcorehdr.header.e_machine
    found = explorer.found if explorer.has_looked else None
    kernel = found.kernel if found is not None else None
    if kernel is not None and kernel.is_same(machine, vmcoreinfo):
        return kernel.with_headers(memory, elfcorehdr), ""
    return Kernel(memory, machine, vmcoreinfo, elfcorehdr), ""


def _doubt(finding: Finding) -> str:
    return f"{finding.what}: {finding.value} ({finding.sure}): {'; '.join(finding.against)}"


def _add_crash_kernel(memory_map: MemoryMap, plan: Plan) -> MemoryMap:
    """Add the crash kernel to a firmware map: the RAM around the elfcorehdr that it leaves out."""
    if plan.paddr is None or len(memory_map.crash_kernel):
        return memory_map
    left_out = subtract(memory_map.ram, plan.elfcorehdr.ram)
    held = (left_out[:, 0] <= plan.paddr) & (plan.paddr < left_out[:, 1])
    return with_crash_kernel(memory_map, left_out[held])


def _find_missing(
    config: CaptureConfig,
    inputs: RawMemory,
    memory: Extents,
    memory_map: MemoryMap,
    plan: Plan,
    explorer: Explorer,
) -> Ranges:
    """RAM of the crashed kernel that no input holds.

    Raises:
        TruncatedError: if there is any, and ``config.truncated`` is false.
    """
    # the crash kernel's own ranges are not asked for: nothing shows them but --raw-reserved
    wanted = normalise(np.concatenate((memory_map.crashed_ram, plan.elfcorehdr.ram)))
    missing = subtract(wanted, memory.ranges)
    if inputs.placed is not None:
        refuse_missing(config, inputs.placed, missing)
    elif len(missing) and not config.truncated:
        found = explorer.found if explorer.has_looked else None
        is_placed = found is not None and found.placement is not None
        raise TruncatedError(
            describe_missing(
                config, inputs.sources[0], missing, memory_map, memory, is_placed=is_placed
            )
        )
    return missing
