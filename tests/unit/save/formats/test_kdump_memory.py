"""What a kdump file's writer holds in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tests.save.driver import PAGE, make_dump
from vmcorefs.core.formats.kdump.descriptors import DESC_SIZE
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.reader import Reader
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.formats.kdump import KdumpFormat


@dataclass
class Watch:
    """An output and its observer.

    Attributes:
        written: Bytes since the first pages were dealt with.
        at_the_end: The same when the last ones were.
    """

    written: int | None = None
    at_the_end: int | None = None

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self.written is not None:
            self.written += len(data)

    def pages(self, done: int, total: int) -> None:
        self.written = self.written or 0
        if done == total and self.at_the_end is None:
            self.at_the_end = self.written

    def needs(self, sizes: Sequence[int], what: str) -> None:
        pass

    def compared(self, done: int, total: int) -> None:
        pass

    def lost(self, paddr: int, size: int, reason: str) -> None:
        raise AssertionError(reason)


def test_descriptors_of_zeros_do_not_pile_up() -> None:
    """No data is written behind them that would let them go."""
    pages = 1 << 18
    ram = make_ranges([(0, pages * PAGE)])
    zeros = Reader("memory", make_extents(ram, kind=Kind.ZERO), [])
    watch = Watch()
    KdumpFormat(find_codec("none"), 1)(replace(make_dump(), ram=ram, memory=zeros), [watch], watch)
    assert watch.at_the_end is not None
    # what is still held then: less than 2 MiB of 6
    assert pages * DESC_SIZE - watch.at_the_end < 2 << 20
