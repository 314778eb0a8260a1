"""Finding the pages that a report is made of, wherever it will be made.

What making the report here reads is recorded. drgn, which follows most of the kernel's structures
for it, is not where a kernel has just crashed: so those are followed here too, by the kernel's own
types, and what is found is enough for a report that drgn takes part in later.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import numpy as np
from msgspec.structs import replace

from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.space.ranges import Int64Array, distinct
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.image import MemoryImage
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reports.report.gather import make_report
from vmcorefs.reports.triage.crawl import Crawl
from vmcorefs.reports.triage.disks import want_disks
from vmcorefs.reports.triage.parts import (
    want_code,
    want_memory,
    want_modules,
    want_pids,
    want_unwind_tables,
    want_variables,
)
from vmcorefs.reports.triage.recorder import Recorder
from vmcorefs.reports.triage.tasks import want_code_on_stacks, want_stacks, want_tasks
from vmcorefs.reports.triage.working_set import WorkingSet
from vmcorefs.save.dump import Triage

_PRIVATE: Final = (
    *(PageKind.USER, PageKind.CACHE, PageKind.CACHE_PRIVATE),
    *(PageKind.HWPOISON, PageKind.OFFLINE),
)
"""What no report needs, whatever leads there: programs' memory, files, what may not be read."""


def find_triage(image: MemoryImage, *, with_drgn: bool = True) -> Triage:
    """What a triage dump of an image is to hold; the arguments and errors are as below."""
    found = find_working_set(image, with_drgn=with_drgn)
    return Triage(found.ranges(image.page_size), found.counts)


def find_working_set(image: MemoryImage, *, with_drgn: bool = True) -> WorkingSet:
    """Find the pages that a report is made of.

    Args:
        image: What the report is of.
        with_drgn: Have drgn make it, where it is installed.

    Raises:
        FormatError: if it is not known which kernel the image is of.
    """
    if image.kernel is None:
        raise FormatError(f"no kernel to ask which pages a report needs: {image.no_kernel}")
    return _Finder(image, image.kernel).find(with_drgn=with_drgn)


class _Finder:
    def __init__(self, image: MemoryImage, kernel: Kernel) -> None:
        self._found = WorkingSet()
        self._true = kernel
        self._memory = Recorder(kernel.memory, image.page_size)
        # a kernel of which nothing is known yet: what is known already would not be read
        self._kernel = Kernel(
            self._memory, kernel.machine, kernel.vmcoreinfo, kernel.elfcorehdr, kernel.told_order
        )
        self._image = replace(image, kernel=self._kernel)

    def find(self, *, with_drgn: bool) -> WorkingSet:
        """See ``find_working_set``."""
        kernel = self._kernel
        self._read("log", lambda: kernel.log)
        self._read("page tables", lambda: kernel.mappings)
        self._read("symbols", lambda: kernel.symbols)
        self._read("variables", lambda: kernel.banner)
        self._read("types", lambda: kernel.types)
        self._read("modules", lambda: kernel.all_symbols)
        self._read("memory map", lambda: (kernel.map, kernel.direct_map, kernel.pages))
        self._read("tasks", lambda: kernel.tasks)
        self._crawl()
        without = "" if with_drgn else "the pages that it reads are found without it"
        self._read("report", lambda: make_report(self._image, without_drgn=without))
        return self._found

    def _read(self, what: str, question: Callable[[], object]) -> None:
        """Want what answering a question reads; a later report that asks it says what is wrong."""
        try:
            question()
        except VmcorefsError:
            pass
        finally:
            self._add(what, self._memory.take(), _PRIVATE)

    def _add(self, what: str, pages: Int64Array, unwanted: tuple[PageKind, ...]) -> None:
        """Want pages, but for those that are RAM of these kinds, and what is no RAM."""
        pages = distinct(pages)
        with suppress(VmcorefsError):  # nothing is known of any page: all are kept
            pages = pages[~np.isin(self._true.pages.of_each(pages), unwanted)]
        self._found.add(what, pages)

    def _crawl(self) -> None:
        pages: list[Int64Array] = []
        try:
            crawl = Crawl(self._kernel, pages.append)
        except VmcorefsError:
            return  # no page tables
        kernel = self._kernel
        for what, want in (
            ("variables", lambda: want_variables(crawl)),
            ("unwind tables", lambda: want_unwind_tables(crawl)),
            ("code", lambda: want_code(crawl)),
            ("modules", lambda: want_modules(crawl)),
            ("memory", lambda: want_memory(crawl)),
            ("disks", lambda: want_disks(crawl)),
            ("tasks", lambda: want_tasks(crawl, kernel.tasks)),
            ("tasks", lambda: want_pids(crawl)),
            ("stacks", lambda: want_stacks(crawl, kernel.tasks)),
            ("code", lambda: want_code_on_stacks(crawl, kernel.tasks)),
        ):
            self._read(what, want)
            followed = np.concatenate([np.zeros(0, dtype=np.int64), *pages])
            self._add(what, followed, (*_PRIVATE, PageKind.FREE))
            pages.clear()
