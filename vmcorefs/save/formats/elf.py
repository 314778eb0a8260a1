"""Writing an ELF dump: a vmcore without what the dump level leaves out.

Where things stand is ``core/layouts/filtered``'s business. What is left out within a PT_LOAD, and
pages of zeros, are holes of the file: they read as zeros, as in makedumpfile's ELF dumps. A page
that could not be read must not, so no PT_LOAD has it in the end; ``e_flags`` then says, as it does
until the dump is whole, that it is incomplete (makedumpfile: elf_info.h, DUMP_ELF_INCOMPLETE).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import msgspec
import numpy as np

from vmcorefs.core.elf.dump_memory import DUMP_ELF_INCOMPLETE
from vmcorefs.core.elf.elf import headers_size, pack_headers, with_flags
from vmcorefs.core.elf.lost_pages import fit, without_lost
from vmcorefs.core.layouts.filtered import leave_out
from vmcorefs.core.layouts.kernel import VmcoreLayout, lay_out_vmcore, note_align
from vmcorefs.core.pages.dump_level import BoolArray, PageKind, left_out
from vmcorefs.core.space.extents import Windows
from vmcorefs.core.space.ranges import (
    Int64Array,
    Ranges,
    make_ranges,
    normalise,
    round_out,
    subtract,
)
from vmcorefs.core.space.units import align_up
from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.output.losses import Loss
from vmcorefs.save.dump import Dump, Observer, Output
from vmcorefs.save.formats.append import Appender
from vmcorefs.save.pages import Batch, PageReader, Pages, batch_pages, batches, find_runs
from vmcorefs.save.pipeline import map_in_order
from vmcorefs.save.survey import Survey
from vmcorefs.save.written import Written, move_zeros, no_counts

_SPARE = 1 << 16
"""Bytes behind the program headers for those that lost pages make: a thousand of them."""

_MIN_HOLE = 16
"""Pages in the shortest run of zeros that becomes a hole: to write less is more work."""

_ZEROS = bytes(1 << 20)

_CROWDED = "the pages around it are lost, and there is no room for more program headers"


class ElfFormat(msgspec.Struct, frozen=True):
    """ELF, as ``makedumpfile -E`` writes it.

    Attributes:
        threads: That read.
        once: Write each byte once, and the zeros too, as for a stream.
    """

    threads: int
    once: bool = False

    def __call__(self, dump: Dump, outputs: Sequence[Output], observer: Observer) -> Written:
        """Write ``dump`` into ``outputs``, of which there is one.

        A page that cannot be read is reported to ``observer`` and is not in the dump, whose header
        then still says that it is incomplete. Memory that no input holds is not in it either.

        Raises:
            ConfigError: if there are several outputs.
            OutputError: if the output cannot be written; it opens as far as it got. Also if it is
                ``sequential``, as a pipe is, and a page cannot be read: the header has gone.
            SourceIOError: if the page array cannot be read.
        """
        if len(outputs) != 1:
            raise ConfigError(f"{len(outputs)} parts: an ELF dump is one file")
        reader = PageReader(dump)
        with closing(Survey(dump, self.threads)) as survey:
            once = self.once or _is_sequential(outputs[0])
            writer = _Writer(dump, survey, reader, outputs[0], once=once)
            # elsewhere what it takes is known once it is written: zeros are holes
            observer.needs([writer.layout.size if once else writer.start], "its bytes")
            writer.write(self.threads, observer)
            counts = survey.kept.copy(), survey.left_out.copy()
            without = bool(left_out(dump.level)[PageKind.ZERO])
            move_zeros(counts, writer.zero_kinds, left_out=without)
            return Written(*counts, writer.layout.size)


class _Writer:
    """Writes one file.

    Attributes:
        layout: Where everything stands in it.
        start: Where its headers end, in bytes.
        zero_kinds: Zero pages by what they were used for.
    """

    def __init__(
        self, dump: Dump, survey: Survey, reader: PageReader, output: Output, *, once: bool
    ) -> None:
        self.layout = _lay_out(dump, survey)
        self.zero_kinds = no_counts()
        self._notes = dump.notes
        self._survey = survey
        self._reader = reader
        self._output = output
        self._once = once
        self._has_losses = False
        self._seen: Ranges = np.empty((0, 2), dtype=np.int64)
        # memory that no input holds: survey.ram is without it
        size = reader.page_size
        self._lost = subtract(round_out(dump.elfcorehdr.ram, size), survey.ram * size)
        notes = self.layout.notes  # none of a machine whose notes were not found
        self.start = int(notes[0, 0]) if len(notes) else len(self.layout.head)
        self._data = Appender(output, self.start)

    def write(self, threads: int, observer: Observer) -> None:
        """Write the file.

        Args:
            threads: That read.
            observer: Follows how far it is.
        """
        if not self._once and (foresee := getattr(self._output, "foresee", None)) is not None:
            foresee(self._head(self._lost, incomplete=False))  # unless more is lost
        self._write_head(self._lost, incomplete=not self._once)
        self._data.append(self._notes)
        done = 0
        try:
            for start, size, to in _rows(self.layout.windows):
                for batch, pages in self._pages(start, size, threads):
                    done += self._put(batch, pages, to - start, observer)
                    observer.pages(done, self._survey.pages)
                self._seen = _add(self._seen, start, start + size)
            self._finish()
        except BaseException:
            # what is there opens; the first error is the one to report
            with suppress(OutputError):
                self._data.flush()
            raise
        lost = fit(self.layout.phdrs, self._lost, self._room)
        for start, end in subtract(lost, self._lost).tolist():
            observer.lost(start, end - start, _CROWDED)
        if self._has_losses or not self._once:
            self._write_head(lost, incomplete=self._has_losses)

    @property
    def _room(self) -> int:
        """How many program headers there is room for."""
        header = self.layout.header
        return (len(self.layout.head) - headers_size(header, 0)) // header.phdr_size

    def _write_head(self, lost: Ranges, *, incomplete: bool) -> None:
        self._output.pwrite(self._head(lost, incomplete=incomplete), 0)

    def _head(self, lost: Ranges, *, incomplete: bool) -> bytes:
        header = with_flags(self.layout.header, DUMP_ELF_INCOMPLETE if incomplete else 0)
        lost = fit(self.layout.phdrs, lost, self._room)
        phdrs = without_lost(self.layout.phdrs, lost)
        return bytes(pack_headers(header, phdrs, size=len(self.layout.head)))

    def _pages(self, start: int, size: int, threads: int) -> Iterator[tuple[Batch, Pages]]:
        page = self._reader.page_size
        count = batch_pages(page, threads)
        todo = batches(self._survey, count, start // page, (start + size) // page)
        with closing(map_in_order(self._read, todo, threads)) as results:
            yield from results

    def _read(self, batch: Batch) -> tuple[Batch, Pages]:
        return batch, self._reader.read(batch)

    def _put(self, batch: Batch, pages: Pages, shift: int, observer: Observer) -> int:
        """Write what was read; say how many of the pages were not seen before in another place."""
        size = self._reader.page_size
        fresh = ~_inside(self._seen, batch.pfns * size)
        self.zero_kinds += np.bincount(batch.kinds[pages.zero & fresh], minlength=len(PageKind))
        pages.data[pages.zero | pages.lost] = 0
        stored = ~pages.lost & ~_long_runs(pages.zero)
        for first, end in find_runs(batch.pfns[stored]).tolist():
            row = int(np.searchsorted(batch.pfns, first))
            self._move(first * size + shift)
            self._data.append(pages.data[row : row + end - first].reshape(-1).data)
        self._reader.give_back(pages)
        for loss in pages.losses:
            self._lose(loss, observer)
        return int(np.count_nonzero(fresh))

    def _move(self, offset: int) -> None:
        """Continue at ``offset``; what lies between is a hole, or zeros where holes cannot be."""
        if self._once:
            while self._data.end < offset:
                self._data.append(_ZEROS[: offset - self._data.end])
        elif offset != self._data.end:
            self._data.move(offset)

    def _lose(self, loss: Loss, observer: Observer) -> None:
        """Note what is lost; it may have been noted already, in another place."""
        new = subtract(make_ranges([(loss.start, loss.end)]), self._lost)
        for start, end in new.tolist():
            observer.lost(start, end - start, loss.reason)
            self._has_losses = True
            self._lost = _add(self._lost, start, end)
        if len(new) and _is_sequential(self._output):
            raise OutputError(
                f"{loss.reason}: an ELF stream cannot say that it lacks this; a flattened one can"
            )
        if len(new) and not self._once:
            self._write_head(self._lost, incomplete=True)

    def _finish(self) -> None:
        """Write what is held, and make the file as long as it should be."""
        size = self.layout.size
        if self._once:
            self._move(size)
        self._data.flush()
        if self._data.end < size:
            self._output.pwrite(b"\0", size - 1)


def _is_sequential(output: Output) -> bool:
    """Whether it takes bytes in order alone (``Target.sequential``)."""
    return bool(getattr(output, "sequential", False))


def _lay_out(dump: Dump, survey: Survey) -> VmcoreLayout:
    """Lay out the file, with room for more program headers."""
    size = dump.kinds.page_size
    layout = lay_out_vmcore(
        dump.elfcorehdr.by_address(),
        len(dump.notes),
        page_size=size,
        note_align=note_align(dump.vmcoreinfo),
    )
    gone = subtract(survey.ram, survey.kept_ranges()) * size
    return leave_out(
        layout,
        gone,
        keep_headers=True,
        spare=align_up(_SPARE, size),
        every=dump.triage is not None,
    )


def _rows(windows: Windows) -> list[tuple[int, int, int]]:
    columns = (windows.start.tolist(), windows.size.tolist(), windows.to.tolist())
    return list(zip(*columns, strict=True))


def _add(ranges: Ranges, start: int, end: int) -> Ranges:
    return normalise(np.concatenate((ranges, make_ranges([(start, end)]))))


def _inside(ranges: Ranges, values: Int64Array) -> BoolArray:
    row = np.searchsorted(ranges[:, 0], values, side="right") - 1
    ends = np.concatenate((ranges[:, 1], [0]))
    return np.asarray((row >= 0) & (values < ends[row]))


def _long_runs(flags: BoolArray) -> BoolArray:
    """Which of ``flags`` are set, in a run of ``_MIN_HOLE`` or more."""
    long = np.zeros_like(flags)
    for start, end in find_runs(np.flatnonzero(flags)).tolist():
        long[start:end] = end - start >= _MIN_HOLE
    return long
