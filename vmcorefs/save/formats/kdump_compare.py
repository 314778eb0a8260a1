"""Whether the pages that an earlier try wrote are those of the image that is saved now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np

from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE, desc_dtype
from vmcorefs.core.formats.kdump.plan import Part
from vmcorefs.errors import ConfigError, UnsupportedError
from vmcorefs.save.dump import Observer, Output
from vmcorefs.save.origin import Origin
from vmcorefs.save.pages import Batch, PageReader, batch_pages, batches
from vmcorefs.save.pipeline import map_in_order
from vmcorefs.save.survey import Survey
from vmcorefs.sources.dumps.page_codecs import find_decompressor


@runtime_checkable
class Resumable(Output, Protocol):
    """An output that an earlier try may have left something in; see ``output.target.Target``."""

    @property
    def present(self) -> int: ...  # noqa: D102  # see above
    def pread(self, size: int, offset: int) -> bytes: ...  # noqa: D102
    def truncate(self, size: int) -> None: ...  # noqa: D102


class _Checked(msgspec.Struct, frozen=True):
    """What comparing a batch has shown.

    Attributes:
        pages: Pages in it.
        same: How many of the first could be compared, and are the same.
        other: The page frame number of the one behind them, if that one is another.
    """

    pages: int
    same: int
    other: int | None


def cannot_resume(reason: str) -> ConfigError:
    """The error for a file that is kept as it is."""
    return ConfigError(f"{reason}, so it cannot be resumed; pass --force to start over")


class Comparison:
    """Compares what stands in a file with an image."""

    def __init__(self, output: Resumable, survey: Survey, part: Part, reader: PageReader) -> None:
        self._output = output
        self._survey = survey
        self._part = part
        self._reader = reader
        self._dtype = desc_dtype(part.main.abi.byte_order)

    def count_same(self, pages: int, made_of: Origin, threads: int, observer: Observer) -> int:
        """How many of the first pages are surely those of the image.

        Up to the first that cannot be compared, as it can be read in only one of the two.

        Args:
            pages: How many are in the file.
            made_of: What it says that it is made of.
            threads: That compare.
            observer: Follows how far it is.

        Raises:
            ConfigError: if a page is another one.
            OutputError: if the file cannot be read.
        """
        same = 0
        with closing(map_in_order(self._check, self._batches(pages, threads), threads)) as results:
            for checked in results:
                same += checked.same
                if checked.other is not None:
                    paddr = checked.other * self._reader.page_size
                    raise cannot_resume(
                        f"it is made of {made_of}: the page at {paddr:#x} is another one there"
                    )
                if checked.same < checked.pages:
                    break
                observer.compared(same, pages)
        return same

    def _batches(self, pages: int, threads: int) -> Iterator[tuple[Batch, int]]:
        """The batches of the first ``pages`` pages, each with the number of its first one."""
        done, part = 0, self._part
        count = batch_pages(self._reader.page_size, threads)
        for batch in batches(self._survey, count, part.first, part.end):
            left = pages - done
            if left <= 0:
                return
            yield Batch(batch.pfns[:left], batch.kinds[:left]), done
            done += len(batch.pfns)

    def _check(self, item: tuple[Batch, int]) -> _Checked:
        batch, first = item
        count = len(batch.pfns)
        where = self._part.where.descriptors + DESC_SIZE * first
        rows = np.frombuffer(self._output.pread(DESC_SIZE * count, where), dtype=self._dtype)
        pages = self._reader.read(batch)
        try:
            for number, row in enumerate(rows):
                theirs = self._page(row)
                if theirs is None or pages.lost[number]:
                    return _Checked(count, number, None)
                ours = b"" if pages.zero[number] else pages.data[number].data
                if theirs != ours:
                    return _Checked(count, number, int(batch.pfns[number]))
        finally:
            self._reader.give_back(pages)
        return _Checked(count, count, None)

    def _page(self, row: np.void) -> bytes | bytearray | None:
        """A page of the file; empty if it is zeros, None if it cannot be decompressed."""
        if row["offset"] == self._part.data:
            return b""
        data = self._output.pread(int(row["size"]), int(row["offset"]))
        try:
            return find_decompressor(int(row["flags"]))(data, self._reader.page_size)
        except (ValueError, UnsupportedError):
            return None
