"""A dump of a few pages, and the smallest format that keeps a writer's promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.builders.dead_machines import load_phdr, pack_elf, stamped
from tests.builders.dumps import BadSource
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.pages.dump_level import KindArray, PageKind, left_out
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.core.space.ranges import Int64Array, make_ranges
from vmcorefs.errors import SourceIOError
from vmcorefs.output.target import Target
from vmcorefs.reader import Reader
from vmcorefs.save.dump import Dump, Observer
from vmcorefs.save.written import Written

PAGE = 4096
PAGES = 64
MEMORY = stamped(0, PAGES * PAGE)
FREE = range(40, 48)
USER = range(48, 60)


class Kinds:
    """Pages of the kernel, some free ones and some of programs."""

    page_size = PAGE

    def of(self, first: int, count: int) -> KindArray:
        kinds = np.full(PAGES, PageKind.KERNEL, dtype=np.uint8)
        kinds[FREE.start : FREE.stop] = PageKind.FREE
        kinds[USER.start : USER.stop] = PageKind.USER
        return kinds[first : first + count]


def make_dump(bad: Sequence[int] = ()) -> Dump:
    """A dump of ``MEMORY``; the pages in ``bad`` cannot be read."""
    ram = make_ranges([(0, PAGES * PAGE)])
    table = make_extents(ram, kind=Kind.DATA, source=0)
    headers = parse_elfcorehdr(pack_elf([load_phdr(0, PAGES * PAGE)]))
    memory = Reader("memory", table, [BadSource(MEMORY, bad)])
    return Dump(ram, memory, Kinds(), 0, b"notes", None, headers)


@dataclass
class TinyFormat:
    """``TINY``, the kept pages one behind the other, ``DONE``; a lost page is ``?``.

    Attributes:
        before: Called before each page.
        levels: Every level that was tried.
    """

    before: Callable[[int], None] = lambda _page: None
    levels: list[int] = field(default_factory=list)

    def __call__(self, dump: Dump, targets: Sequence[Target], observer: Observer) -> Written:
        self.levels.append(dump.level)
        kinds = dump.kinds.of(0, PAGES)
        keep = ~left_out(dump.level)[kinds]
        kept = np.flatnonzero(keep).astype(np.int64)
        sizes = [
            self._part(dump, target, part, observer, len(kept))
            for target, part in zip(targets, np.array_split(kept, len(targets)), strict=True)
        ]
        counts = [np.bincount(kinds[rows], minlength=len(PageKind)) for rows in (keep, ~keep)]
        return Written(counts[0], counts[1], sum(sizes))

    def _part(
        self, dump: Dump, target: Target, part: Int64Array, observer: Observer, total: int
    ) -> int:
        position = 0

        def append(data: bytes) -> None:
            nonlocal position
            target.pwrite(data, position)
            position += len(data)

        append(b"TINY")
        for page in part.tolist():
            self.before(page)
            observer.pages(page, total)
            try:
                append(dump.memory.pread(PAGE, page * PAGE))
            except SourceIOError:
                observer.lost(page * PAGE, PAGE, "Input/output error")
                append(b"?")
        append(b"DONE")
        observer.pages(total, total)
        return position
