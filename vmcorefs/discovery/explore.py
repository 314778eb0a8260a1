"""Everything that memory itself says about which kernel it is and where it belongs.

``Explorer.found`` is the kernel that crashed: its VMCOREINFO, found by a scan or given; the
placement of the bytes in which its page tables resolve; its own memory map. Nothing is worked out
before it is asked for, so a capture that is fully described by a map and an elfcorehdr costs no
scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

from vmcorefs.config import CaptureConfig
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.formats import PageTableFormat
from vmcorefs.core.space.extents import Extents
from vmcorefs.core.space.placement import USUAL_SPLITS, Placement, flat, iter_placements, split
from vmcorefs.core.space.ranges import Ranges
from vmcorefs.discovery.crash_kernel.told_elfcorehdr import find_crashed_note
from vmcorefs.discovery.found import FoundKernel, rank
from vmcorefs.discovery.search.candidates import Candidate, read_candidates
from vmcorefs.discovery.search.root import find_deltas, maps_itself
from vmcorefs.discovery.search.scan import Hits, place_of, scan
from vmcorefs.discovery.search.trampoline import find_notes
from vmcorefs.discovery.vmcoreinfo import given_vmcoreinfo
from vmcorefs.errors import ConfigError, FormatError, UnsupportedError
from vmcorefs.kernel.arch.known import locate_page_tables, machine_of
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.maps import read_static_map
from vmcorefs.reader import Reader
from vmcorefs.sources.base import Source
from vmcorefs.system.progress import Progress

MAX_CANDIDATES = 16
"""Most distinct VMCOREINFOs to follow; a machine that crashed twice has three or four."""

TOO_MANY = f"there are more VMCOREINFO notes than the {MAX_CANDIDATES} that were followed"

_MAX_DELTAS = 4
_MAX_SEARCHES = 3  # each reads the whole file


class Explorer:
    """Finds out what it can about the captured memory.

    Attributes:
        captured: The physical address space as the user placed it; a file without a given address
            is at 0.
        is_movable: Whether the bytes are one file without a given address.
        known: VMCOREINFO that need not be searched for, or None.
        placed_by: What says where the bytes belong, for people; empty if the user does, or nobody.
        has_passed_over: Whether ``ranking`` left out notes because there were too many.
    """

    def __init__(
        self,
        config: CaptureConfig,
        sources: Sequence[Source],
        captured: Extents,
        progress: Progress | None = None,
        *,
        known: Vmcoreinfo | None = None,
        placed_by: str = "",
    ) -> None:
        alone = len(config.images) == 1 and config.images[0].paddr is None
        self.captured = captured
        self.known = known
        self.is_movable = alone and not placed_by
        self.placed_by = placed_by
        self.has_passed_over = False
        self._is_thorough = False
        self._made: Kernel | None = None
        self._config = config
        self._progress = progress
        self._sources = tuple(sources)

    @property
    def has_looked(self) -> bool:
        """Whether ``ranking`` has been worked out, so that it costs nothing any more."""
        return "ranking" in self.__dict__

    @property
    def has_scanned(self) -> bool:
        """Whether ``hits`` has been worked out and is complete."""
        return "hits" in self.__dict__ and self.hits.complete

    @cached_property
    def hits(self) -> Hits:
        """The result of a scan of all memory that the inputs hold.

        Raises:
            SourceIOError: if an input cannot be read.
        """
        return scan(self._sources, self.captured, self._progress)

    @cached_property
    def given(self) -> Vmcoreinfo | int | None:
        """The given VMCOREINFO, or its address; read once, as it may be a pipe.

        Raises:
            ConfigError: if it cannot be read.
            FormatError: if it is not VMCOREINFO.
        """
        given = self._config.vmcoreinfo
        return given_vmcoreinfo(given) if given is not None else self.known

    @cached_property
    def ranking(self) -> tuple[FoundKernel, ...]:
        """Each VMCOREINFO and its kernel, the likeliest first; empty if none is to be used.

        Raises:
            ConfigError: if a VMCOREINFO is given but cannot be read, or is not at its address.
            FormatError: if the given file is not VMCOREINFO.
            SourceIOError: if an input cannot be read.
        """
        config = self._config
        if not config.use_vmcoreinfo:
            return ()
        given = self.given
        if isinstance(given, Vmcoreinfo):
            return tuple(self._follow_all([Candidate(given, None)]))
        at = place_of(self.captured, given) if given is not None else None
        places = [at] if at is not None else []  # before 4.13 it was not aligned to a page
        if not any(read_candidates(self._sources, places)):
            last = None if given is not None or self._is_thorough else self._follow_last()
            if last is not None:
                return (last,)
            places = [*self.hits.vmcoreinfo]  # which reads everything
        candidates = sorted(
            read_candidates(self._sources, places),
            key=lambda one: (at in one.places, self._lies_as_usual(one)),
            reverse=True,
        )
        complete = len(places) == 1 or self.hits.complete
        self.has_passed_over = len(candidates) > MAX_CANDIDATES or not complete
        found = rank(self._follow_all(candidates[:MAX_CANDIDATES]))
        if given is None:
            return tuple(found)
        wanted = [one for one in found if given in one.note_at]
        if not wanted:
            there = ", ".join(f"{paddr:#x}" for one in found for paddr in one.note_at)
            raise ConfigError(
                f"no VMCOREINFO note at {given:#x}; the image has {there or 'none at all'}"
            )
        return tuple(wanted)

    @property
    def found(self) -> FoundKernel | None:
        """The kernel that most likely crashed; the errors are those of ``ranking``.

        None if there is only a capture kernel, unless its VMCOREINFO is given.
        """
        best = self.ranking[0] if self.ranking else None
        lost = best is not None and best.is_capture_kernel and self.given is None
        return None if lost else best

    def look(self) -> None:
        """Scan all memory, and work out everything now; the errors are those of ``ranking``."""
        self._is_thorough = True
        _ = self.ranking

    def placed(self, placement: Placement) -> Extents:
        """The physical address space with the file in this placement."""
        return placement.extents(0, self._config.images[0].offset)

    @property
    def size(self) -> int:
        """Bytes of memory in the file."""
        return int(self.captured.size.sum())

    def _follow_last(self) -> FoundKernel | None:
        """The kernel that crashed, by way of the one that ran last; None if there is any doubt.

        That may be its capture kernel, which was told where the elfcorehdr is.
        """
        if self._config.machine not in (None, EM_X86_64):
            return None
        for captured in self._iter_usual():
            memory = Reader("memory", captured, self._sources)
            for paddr in find_notes(memory):
                last = self._read_note(captured, paddr)
                if last is None:
                    continue
                one = self._follow_on(memory, last)
                if one is not None and one.is_certain:
                    return one
                break  # it is the last kernel's: what it leads to is elsewhere, or in doubt
        return None

    def _follow_on(self, memory: Reader, last: Candidate) -> FoundKernel | None:
        """The kernel that crashed, if ``last`` is the one that ran last."""
        kernel = self._kernel(memory.table, EM_X86_64, last)
        if not FoundKernel(last, memory.table, None, kernel).is_capture_kernel:
            return self._follow(last, search=False)
        note = find_crashed_note(kernel)
        crashed = self._read_note(memory.table, note) if note is not None else None
        return self._follow(crashed, search=False) if crashed is not None else None

    def _iter_usual(self) -> Iterator[Extents]:
        """The memory in each of the placements that begin with low memory."""
        if not self.is_movable:
            yield self.captured
            return
        yield self.placed(flat(self.size))
        yield from (self.placed(split(self.size, low)) for low in USUAL_SPLITS if low < self.size)

    def _read_note(self, captured: Extents, paddr: int) -> Candidate | None:
        place = place_of(captured, paddr)
        found = read_candidates(self._sources, [place] if place is not None else [])
        return found[0] if found else None

    def _lies_as_usual(self, candidate: Candidate) -> bool:
        """Whether its page tables are where the simplest placements would have them.

        This reads only a few bytes, so that a host's own VMCOREINFO is found among those of many
        guests.
        """
        machine = self._config.machine or machine_of(candidate.vmcoreinfo)
        if machine is None:
            return False
        memory = Reader("memory", self.captured, self._sources)
        try:
            fmt, root = locate_page_tables(machine, candidate.vmcoreinfo)
            deltas = find_deltas(memory, fmt, root, candidate.vmcoreinfo, search=False)
            return next(deltas, None) is not None
        except (FormatError, UnsupportedError):
            return False

    def _follow_all(self, candidates: Sequence[Candidate]) -> list[FoundKernel]:
        """Follow each; those not at one of the usual distances are searched for if it matters."""
        found = [self._follow(candidate, search=False) for candidate in candidates]
        lost = [n for n, one in enumerate(found) if one.kernel is None]
        if len(lost) < len(found):  # then a kernel that did not crash is not worth a search
            lost = [n for n in lost if candidates[n].vmcoreinfo.crash_time is not None]
        for n in lost[:_MAX_SEARCHES] if self.is_movable else ():
            found[n] = self._follow(candidates[n], search=True)
        return found

    def _follow(self, candidate: Candidate, *, search: bool) -> FoundKernel:
        """Find the placement in which the page tables of a VMCOREINFO resolve."""
        machine = self._config.machine or machine_of(candidate.vmcoreinfo)
        if machine is None:
            why_not = "VMCOREINFO does not say which architecture it is (--machine)"
            return FoundKernel(candidate, self.captured, why_not=why_not)
        try:
            fmt, root = locate_page_tables(machine, candidate.vmcoreinfo)
            ways = self._resolve(candidate, machine, fmt, root, search=search)
            best = min(ways, key=lambda found: found.faults, default=None)
        except (FormatError, UnsupportedError) as error:
            return FoundKernel(candidate, self.captured, why_not=str(error))
        if best is None:
            why_not = f"no page tables at {root:#x} map themselves ({fmt.name})"
            return FoundKernel(candidate, self.captured, why_not=why_not)
        return best

    def _resolve(
        self, candidate: Candidate, machine: int, fmt: PageTableFormat, root: int, *, search: bool
    ) -> Iterator[FoundKernel]:
        """Placements in which the page tables resolve, up to the first one without faults."""
        memory = Reader("memory", self.captured, self._sources)
        vmcoreinfo = candidate.vmcoreinfo
        if not self.is_movable:
            if maps_itself(memory, fmt, root, vmcoreinfo.symbol("swapper_pg_dir"), 0):
                kernel = self._kernel(self.captured, machine, candidate)
                yield FoundKernel(candidate, self.captured, None, kernel)
            return
        deltas = find_deltas(memory, fmt, root, vmcoreinfo, search=search)
        for delta in islice(deltas, _MAX_DELTAS):
            for placement in self._placements(delta, machine, candidate):
                if not placement.shows(root, root - delta):
                    continue
                captured = self.placed(placement)
                kernel = self._kernel(captured, machine, candidate)
                found = FoundKernel(candidate, captured, placement, kernel)
                yield found
                if found.faults == (0, 0):
                    return

    def _kernel(self, captured: Extents, machine: int, candidate: Candidate) -> Kernel:
        """A kernel in this placement; the last one again, if it is the same."""
        made, vmcoreinfo = self._made, candidate.vmcoreinfo
        if (
            made is None
            or not made.is_same(machine, vmcoreinfo)
            or not made.memory.table.is_same(captured)
        ):
            memory = Reader("memory", captured, self._sources)
            made = Kernel(memory, machine, vmcoreinfo, told_order=candidate.byte_order)
            self._made = made
        return made

    def _placements(self, delta: int, machine: int, candidate: Candidate) -> Iterator[Placement]:
        def read_ram() -> Ranges | None:
            near = Reader("memory", self.placed(flat(self.size, delta)), self._sources)
            order = candidate.byte_order
            memory_map = read_static_map(
                Kernel(near, machine, candidate.vmcoreinfo, told_order=order)
            )
            return memory_map.ram if memory_map is not None else None

        # no memory is below 0: a file that starts with something else needs an offset
        return iter_placements(self.size, delta, read_ram) if delta >= 0 else iter(())
