"""A kernel that was found in memory, and the evidence for and against it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property

import msgspec

from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.placement import Placement
from vmcorefs.core.space.ranges import Ranges, subtract, total_size
from vmcorefs.core.space.units import counted, format_size
from vmcorefs.discovery.search.candidates import Candidate
from vmcorefs.discovery.search.scan import locate_all
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.maps import KernelMap

_ELFCORE_ADDR_MAX = (1 << 64) - 1
_ELFCORE_ADDR_ERR = (1 << 64) - 2
_MAX_PADDR = 1 << 52


class FoundKernel(msgspec.Struct, frozen=True, dict=True):
    """A VMCOREINFO, and the kernel that it leads to in one placement of the bytes.

    Attributes:
        candidate: The VMCOREINFO.
        captured: The physical address space in this placement.
        placement: The placement; None if the user gave the addresses.
        kernel: Reads the kernel; None if its page tables cannot be followed.
        why_not: Why there is no ``kernel``.
    """

    candidate: Candidate
    captured: Extents
    placement: Placement | None = None
    kernel: Kernel | None = None
    why_not: str = ""

    @property
    def kernel_map(self) -> KernelMap | None:
        """The kernel's own memory map.

        Raises:
            SourceIOError: if an input cannot be read.
        """
        return self.kernel.map if self.kernel is not None else None

    @cached_property
    def missing(self) -> Ranges | None:
        """RAM of the kernel's own map that this placement lacks; None if there is no map."""
        if self.kernel_map is None:
            return None
        return subtract(self.kernel_map.memory_map.ram, self.captured.ranges)

    @property
    def faults(self) -> tuple[int, int]:
        """How badly the placement fits: page tables that cannot be right, missing bytes of RAM."""
        if self.kernel is None:
            return (1 << 62, 0)
        problems = sum(problem.count for problem in self.kernel.mappings.problems)
        return problems, total_size(self.missing) if self.missing is not None else 0

    @cached_property
    def note_at(self) -> tuple[int, ...]:
        """Physical addresses of the note and its copies."""
        return tuple(locate_all(self.captured, self.candidate.places))

    @cached_property
    def own_note(self) -> int | None:
        """Where the kernel says that its note is; None if that cannot be read."""
        if self.kernel is None:
            return None
        try:
            pointer = self.kernel.virtual.pointer(self.kernel.symbol("vmcoreinfo_note"))
        except VmcorefsError:
            return None
        return self.kernel.mappings.translate(pointer)

    @cached_property
    def _elfcorehdr_addr(self) -> int | None:
        if self.kernel is None:
            return None
        try:
            return self.kernel.virtual.integer(self.kernel.symbol("elfcorehdr_addr"), 8)
        except VmcorefsError:
            return None

    @property
    def is_capture_kernel(self) -> bool:
        """Whether it was booted to save another kernel's memory, as far as it can be read.

        Its ``elfcorehdr_addr`` then is not ELFCORE_ADDR_MAX (include/linux/crash_dump.h,
        ``is_kdump_kernel``): an address, or ELFCORE_ADDR_ERR once it has set up /proc/vmcore.
        """
        value = self._elfcorehdr_addr
        return value is not None and (0 < value < _MAX_PADDR or value == _ELFCORE_ADDR_ERR)

    @property
    def is_certain(self) -> bool:
        """Whether it fits without any doubt, and is known to be no capture kernel.

        CRASHTIME tells that too: who has it had a crash kernel, which a capture kernel has not
        (kernel/crash_core.c, ``__crash_kexec``).
        """
        crashed = self.candidate.vmcoreinfo.crash_time is not None
        return (
            self.faults == (0, 0)
            and self.own_note is not None
            and self.own_note in self.note_at
            and not self.is_capture_kernel
            and (self._elfcorehdr_addr == _ELFCORE_ADDR_MAX or crashed)
        )

    @property
    def note(self) -> int | None:
        """Physical address of the note: the kernel's own, if it is one of those that were found."""
        if self.own_note in self.note_at:
            return self.own_note
        return self.note_at[0] if self.note_at else None

    def _lacking(self) -> int:
        """Bytes of RAM that it lacks, not counting the crash kernel's, which no dump has."""
        if self.missing is None or self.kernel_map is None:
            return 0
        return total_size(subtract(self.missing, self.kernel_map.memory_map.crash_kernel))

    def _is_in_ram(self) -> bool:
        if self.note is None or self.kernel_map is None:
            return False
        return any(a <= self.note < b for a, b in self.kernel_map.memory_map.ram.tolist())

    def is_inside_crash_kernel(self, other: FoundKernel) -> bool:
        """Whether this note is in the memory that ``other`` reserved for its crash kernel."""
        if self.note is None or other.kernel_map is None:
            return False
        ranges = other.kernel_map.memory_map.crash_kernel.tolist()
        return any(start <= self.note < end for start, end in ranges)

    def reasons(self) -> list[str]:
        """The evidence for it, a line each."""
        lines = []
        if self.kernel is not None:
            mappings = self.kernel.mappings
            lines.append(
                f"its page tables ({mappings.fmt.name}, at {mappings.root:#x}) map themselves;"
                f" {counted(mappings.tables, 'table')}, {counted(len(mappings), 'run')}"
            )
        if self.own_note is not None and self.own_note in self.note_at:
            lines.append(f"the kernel's vmcoreinfo_note points to it, {self.own_note:#x}")
        if self._is_in_ram():
            lines.append("it is in System RAM by the kernel's own map")
        return lines

    def crash_time(self) -> list[str]:
        """When it crashed, by its own word, in a line; empty if it does not say."""
        seconds = self.candidate.vmcoreinfo.crash_time
        if seconds is None:
            return []
        return [f"CRASHTIME is {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"]

    def contradictions(self) -> list[str]:
        """What speaks against its being the note of a kernel that crashed, a line each."""
        lines = []
        if self.is_capture_kernel:
            lines.append("it is a capture kernel: its elfcorehdr_addr is set")
        if self.own_note is not None and self.own_note not in self.note_at and self.note_at:
            lines.append(f"the kernel's vmcoreinfo_note points elsewhere, to {self.own_note:#x}")
        if self.note is not None and self.kernel_map is not None and not self._is_in_ram():
            lines.append("it is outside System RAM by the kernel's own map")
        return lines

    def objections(self) -> list[str]:
        """The evidence against it, a line each."""
        lines = [self.why_not] if self.why_not else []
        lines += self.contradictions()
        if self.kernel is not None:
            lines += [str(problem) for problem in self.kernel.mappings.problems]
        lacking = self._lacking()
        if lacking:
            lines.append(f"{format_size(lacking)} of the kernel's RAM are not in the image")
        if self.candidate.vmcoreinfo.crash_time is None:
            lines.append("no CRASHTIME: it had not crashed yet")
        return lines


def rank(found: list[FoundKernel]) -> list[FoundKernel]:
    """Order kernels by how likely each one is to be the one that crashed, the likeliest first."""

    def key(one: FoundKernel) -> tuple[bool, bool, bool, bool, bool, int]:
        fitting = one.kernel is not None
        inside = any(one.is_inside_crash_kernel(other) for other in found if other is not one)
        own = one.own_note is None or one.own_note in one.note_at
        crashed = one.candidate.vmcoreinfo.crash_time is not None
        return fitting, not one.is_capture_kernel, not inside, own, crashed, -sum(one.faults)

    return sorted(found, key=key, reverse=True)
