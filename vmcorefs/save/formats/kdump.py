"""Writing a kdump-compressed dump, in one file or in parts.

A file opens as far as it got, whenever the writing stops: the header says that it is incomplete
until it no longer is, and a page's descriptor follows its data. Until then the descriptor has
offset 0, for which crash and libkdumpfile report an error and not zeros, and claims to be
compressed, for which makedumpfile does the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, DescArray, Flag, desc_dtype
from vmcorefs.core.formats.kdump.plan import Part
from vmcorefs.core.pages.dump_level import PageKind, left_out
from vmcorefs.core.space.units import counted
from vmcorefs.errors import OutputError
from vmcorefs.save.codecs import Codec
from vmcorefs.save.dump import Dump, Observer, Output
from vmcorefs.save.formats.append import Appender
from vmcorefs.save.formats.kdump_compare import Comparison, Resumable
from vmcorefs.save.formats.kdump_plan import bitmaps, plan_parts
from vmcorefs.save.formats.kdump_resume import ORIGIN, find_done
from vmcorefs.save.origin import Origin
from vmcorefs.save.packing import PackedPages, Packer
from vmcorefs.save.pages import Batch, PageReader, batch_pages, batches
from vmcorefs.save.pipeline import map_in_order
from vmcorefs.save.survey import Survey
from vmcorefs.save.written import Counts, Written, move_zeros, no_counts

UInt32Array = npt.NDArray[np.uint32]

_DESC_UNIT = 1 << 16
_MAX_PENDING = 256  # batches: gigabytes of zeros would be as many descriptors in memory


class Packed(msgspec.Struct, frozen=True):
    """The pages of a batch as they will stand in the file.

    Attributes:
        pages: What they are compressed to.
        flags: Of each page's descriptor, shape ``(n,)``.
        zero_kinds: Zero pages by what they were used for.
    """

    pages: PackedPages
    flags: UInt32Array
    zero_kinds: Counts


class KdumpFormat(msgspec.Struct, frozen=True):
    """kdump-compressed, version 6.

    Attributes:
        codec: How pages are compressed.
        threads: That compress them.
        once: Write each byte once, as for a stream: nothing in it can be changed later, so its end
            must say that it is complete.
    """

    codec: Codec
    threads: int
    once: bool = False

    def __call__(self, dump: Dump, outputs: Sequence[Output], observer: Observer) -> Written:
        """Write ``dump`` into ``outputs``, a part of it into each.

        A page that cannot be read is reported to ``observer`` and is not in the dump, whose header
        then still says that it is incomplete. An output that is ``Resumable`` and has the beginning
        of the same dump is resumed.

        Raises:
            ConfigError: if there are too many parts, or another dump is in an output.
            OutputError: if an output cannot be written; it opens as far as it got.
            SourceIOError: if the page array cannot be read.
        """
        with closing(Survey(dump, self.threads)) as survey:
            parts = plan_parts(dump, survey, self.codec, len(outputs))
            observer.needs(
                [part.data + part.main.block_size for part in parts],
                f"its bitmaps and the descriptors of {counted(survey.pages, 'page')}",
            )
            counts = survey.kept.copy(), survey.left_out.copy()
            no_zeros = bool(left_out(dump.level)[PageKind.ZERO])
            done, size, resumed = 0, 0, 0
            for part, output in zip(parts, outputs, strict=True):
                writer = _Writer(dump, survey, part, output, self.codec)
                resumed += writer.begin(self.threads, observer, once=self.once)
                writer.write(self.threads, observer, done, once=self.once)
                move_zeros(counts, writer.zero_kinds, left_out=no_zeros)
                done += part.pages
                size += writer.end
            observer.pages(done, survey.pages)
            return Written(*counts, size, resumed)


class _Writer:
    """Writes one file.

    Attributes:
        zero_kinds: Zero pages by what they were used for.
    """

    def __init__(
        self, dump: Dump, survey: Survey, part: Part, output: Output, codec: Codec
    ) -> None:
        self.zero_kinds = no_counts()
        self._survey = survey
        self._part = part
        self._output = output
        self._codec = codec
        self._origin = dump.origin
        self._reader = PageReader(dump)
        self._packer = Packer(self._reader, codec)
        self._dtype = desc_dtype(part.main.abi.byte_order)
        self._data = Appender(output, part.data)
        self._descriptors = Appender(output, part.where.descriptors, _DESC_UNIT)
        self._pending: list[tuple[DescArray, int]] = []  # and where the data of the last one ends
        self._skip = 0
        self._has_losses = False

    @property
    def end(self) -> int:
        """Bytes in the file."""
        return self._data.end

    def begin(self, threads: int, observer: Observer, *, once: bool) -> int:
        """Write everything in front of the pages, unless an earlier try did.

        Args:
            threads: That compare what an earlier try wrote.
            observer: Follows how far that is.
            once: Nothing is changed later.

        Returns:
            How many of the first pages are there already.
        """
        if not self._resume(threads, observer):
            self._write_front(incomplete=not once)
            maps = Appender(self._output, self._part.where.ram)
            for piece in bitmaps(self._survey, self._part):
                maps.append(piece)
            maps.flush()
            if not once:
                self._reserve(0)
            # one page stands for all that are zero; makedumpfile puts it here too
            self._data.append(bytes(self._part.main.block_size))
        return self._skip

    def write(self, threads: int, observer: Observer, before: int, *, once: bool) -> None:
        """Write the pages, and say that the file is complete.

        Args:
            threads: That compress.
            observer: Follows how far it is.
            before: Pages of the files before this one.
            once: The file says so already.
        """
        part, done = self._part, before + self._skip
        todo = batches(
            self._survey,
            batch_pages(part.main.block_size, threads),
            part.first,
            part.end,
            skip=self._skip,
        )
        try:
            with closing(map_in_order(self._pack, todo, threads)) as results:
                for packed in results:
                    self._put(packed, observer)
                    done += len(packed.flags)
                    observer.pages(done, self._survey.pages)
            self._data.flush()
            self._settle_descriptors()
        except BaseException:
            # what is there opens; the first error is the one to report
            with suppress(OutputError):
                self._data.flush()
            with suppress(OutputError):
                self._settle_descriptors()
            raise
        if self._has_losses or not once:
            self._write_front(incomplete=self._has_losses)

    def _write_front(self, *, incomplete: bool) -> None:
        front = self._part.front(incomplete=incomplete)
        if incomplete and isinstance(self._output, Resumable):
            block = self._part.main.block_size
            front = front[:ORIGIN] + self._origin.pack(block - ORIGIN) + front[block:]
        self._output.pwrite(front, 0)

    def _resume(self, threads: int, observer: Observer) -> bool:
        """Resume an earlier try; False if there is none."""
        output, part = self._output, self._part
        if not isinstance(output, Resumable) or not output.present:
            return False
        comparison = Comparison(output, self._survey, part, self._reader)

        def count_same(made_of: Origin, pages: int) -> int:
            if made_of.is_same(self._origin):
                return pages
            return comparison.count_same(pages, made_of, threads, observer)

        done = find_done(output, self._survey, part, count_same)
        if done is None:
            output.truncate(0)
            return False
        self._write_front(incomplete=True)
        # first the descriptors: what they point to is about to be overwritten
        self._reserve(done.pages)
        output.truncate(done.end)
        output.pwrite(bytes(part.main.block_size), part.data)
        self._skip, self.zero_kinds = done.pages, done.zero_kinds
        self._data = Appender(output, done.end)
        at = part.where.descriptors + DESC_SIZE * done.pages
        self._descriptors = Appender(output, at, _DESC_UNIT)
        return True

    def _reserve(self, first: int) -> None:
        """Fill in descriptors that have no page, so that later ones find their room on the disk."""
        count = self._part.pages - first
        rows = np.zeros(min(count, _DESC_UNIT), dtype=self._dtype)
        rows["flags"] = Flag.ZLIB
        fill = Appender(self._output, self._part.where.descriptors + DESC_SIZE * first)
        for done in range(0, count, _DESC_UNIT):
            fill.append(rows[: count - done].tobytes())
        fill.flush()

    def _pack(self, batch: Batch) -> Packed:
        pages = self._packer.pack(batch)
        sizes = pages.sizes
        flags = np.zeros(len(sizes), dtype=np.uint32)
        flags[(sizes > 0) & (sizes < self._reader.page_size)] = self._codec.flag
        zero_kinds = np.bincount(batch.kinds[pages.zero], minlength=len(PageKind))
        return Packed(pages, flags, zero_kinds)

    def _put(self, packed: Packed, observer: Observer) -> None:
        pages = packed.pages
        for loss in pages.losses:
            observer.lost(loss.start, loss.size, loss.reason)
            self._has_losses = True
        self.zero_kinds += packed.zero_kinds
        rows = np.zeros(len(packed.flags), dtype=self._dtype)
        sizes = pages.sizes.astype(np.int64)
        rows["offset"] = self._data.end + np.cumsum(sizes) - sizes
        rows["size"], rows["flags"] = pages.sizes, packed.flags
        rows["offset"][pages.zero], rows["size"][pages.zero] = (
            self._part.data,
            self._reader.page_size,
        )
        rows["offset"][pages.lost], rows["flags"][pages.lost] = 0, Flag.ZLIB
        for piece in pages.pieces:
            self._data.append(piece)
        self._packer.give_back(pages)
        self._pending.append((rows, self._data.end))
        self._commit()

    def _commit(self) -> None:
        """Let the descriptors go whose data is written; zero pages have none, and must not wait."""
        if len(self._pending) > _MAX_PENDING:
            self._data.flush()
        while self._pending and self._pending[0][1] <= self._data.written:
            self._descriptors.append(self._pending.pop(0)[0].tobytes())

    def _settle_descriptors(self) -> None:
        self._commit()
        self._descriptors.flush()
