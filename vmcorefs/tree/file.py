"""A file of the tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from typing import cast

from vmcorefs.core.space.extents import Extents, Kind, coalesce, fill, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.reader import DEFAULT_FAULTS, Reader
from vmcorefs.sources.base import BytesSource, Source


class TreeFile:
    """One read-only file: a path in the tree, a size, and where each byte comes from.

    A text is made when it is first read: ``layout.json`` of a million extents is long. Its size may
    be known before.

    Attributes:
        path: Where it is in the tree, such as ``vmcore`` or ``crash_notes.d/cpu0``.
        is_text: Whether all of its bytes are made by vmcorefs.
        is_sized_late: Whether a mount has it empty until it is opened, as files of /proc are: to
            make it takes too long for a listing.
        describe_plane: On a mount, says how its reads are served, for ``layout.json``; None
            without a mount.
    """

    def __init__(
        self,
        path: str,
        make: Callable[[], Reader],
        measure: Callable[[], int] | None = None,
        *,
        is_text: bool = False,
        is_sized_late: bool = False,
    ) -> None:
        self.path = path
        self.is_text = is_text
        self.is_sized_late = is_sized_late
        self._make: Callable[[], Reader] | None = make
        self._measure = measure
        # its own: where one file hangs, as its input does, the others can be made
        self._making = RLock()
        self._reader: Reader | None = None
        self._size: int | None = None
        self.describe_plane: Callable[[], Mapping[str, object]] | None = None

    @property
    def reader(self) -> Reader:
        """Its bytes by position; the table covers ``[0, size)`` without a gap."""
        if self._reader is None:
            with self._making:
                if self._reader is None and self._make is not None:
                    reader = self._make()
                    table = reader.table
                    self._size = int(table.start[-1] + table.size[-1]) if len(table) else 0
                    self._reader = reader
                    # what it was made of may be as large as its table
                    self._make = self._measure = None
        return cast("Reader", self._reader)

    @property
    def size(self) -> int:
        """Bytes in it."""
        if self._size is None:
            self.measure()
        return self._size or 0

    def measure(self) -> None:
        """Find its size now, without making it where that can be helped."""
        with self._making:
            if self._size is None and self._measure is not None:
                self._size = self._measure()
        if self._size is None:
            self.make()

    def make(self) -> None:
        """Make it now, if that has not been done; it raises what making it raises."""
        _ = self.reader

    @property
    def is_made(self) -> bool:
        """Whether asking for its bytes will not take long."""
        return self._reader is not None

    @property
    def is_measured(self) -> bool:
        """Whether asking for its size will not take long."""
        return self._size is not None

    def pread(self, size: int, offset: int) -> bytes:
        """Read up to ``size`` bytes from ``offset`` on; fewer only at the end of the file.

        Raises:
            FaultError: if a byte of them is in no input.
            SourceIOError: if an input cannot be read.
            ValueError: if ``size`` or ``offset`` is negative.
        """
        if size < 0 or offset < 0:
            raise ValueError(f"size {size} and offset {offset} must not be negative")
        return self.reader.pread(max(min(size, self.size - offset), 0), offset)


def text_file(
    path: str,
    make: Callable[[], bytes],
    measure: Callable[[], int] | None = None,
    *,
    is_sized_late: bool = False,
) -> TreeFile:
    """A file whose bytes vmcorefs makes.

    Args:
        path: Where it is in the tree.
        make: Makes its bytes.
        measure: Tells how many there are, if that can be had for less.
        is_sized_late: See ``TreeFile``.
    """

    def reader() -> Reader:
        data = make()
        return Reader(path, whole(0, len(data)), (BytesSource(path, data),))

    return TreeFile(path, reader, measure, is_text=True, is_sized_late=is_sized_late)


def table_file(
    path: str, table: Extents, sources: Sequence[Source], faults: frozenset[Kind] = DEFAULT_FAULTS
) -> TreeFile:
    """A file whose bytes a table finds."""
    reader = Reader(path, table, sources, faults)
    return TreeFile(path, lambda: reader)


def whole(source: int, size: int) -> Extents:
    """The table of a file that is the first ``size`` bytes of one source."""
    return make_extents(make_ranges([(0, size)]), kind=Kind.DATA, source=source)


def complete(table: Extents, size: int, kind: Kind) -> Extents:
    """The table of a file of ``size`` bytes: what ``table`` leaves out is of kind ``kind``."""
    return coalesce(fill(table, make_ranges([(0, size)]), kind))
