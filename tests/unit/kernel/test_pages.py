"""Page kinds read from a kernel's memory: through its page tables, block by block."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.builders.kernels import MIB, X86_RAM, DeadKernel, make_kernel
from tests.builders.pages import ANON, ARRAY, FILE, LRU, SECTION, SIZE, PageArray, with_page_array
from vmcorefs.config import CaptureConfig
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.errors import FormatError
from vmcorefs.image import open_image
from vmcorefs.kernel.pages import BLOCK, KernelPages
from vmcorefs.piece import Piece

RAM = ((0x1000, 0x9FC00), (MIB, 512 * MIB))
VMEMMAP = 0xFFFFEA0000000000


@contextmanager
def kinds_of(kernel: DeadKernel, path: Path, size: int | None = None) -> Iterator[KernelPages]:
    """The kernel's pages; of an image cut to ``size`` bytes."""
    kernel.save(path / "ram")
    config = CaptureConfig((Piece(str(path / "ram"), 0, 0, size),), truncated=size is not None)
    image = open_image(config)
    try:
        yield image.pages
    finally:
        image.close()


def test_sections_anywhere_and_spans_over_blocks(tmp_path: Path) -> None:
    pages = PageArray("6.12", 4 * SECTION)
    pages.put(1, flags=LRU["6.12"], mapping=FILE)
    pages.free(SECTION - 512, 9)
    pages.compound(SECTION, 3, mapping=ANON, huge=True)
    # 256 MiB: its tails are not even told of
    pages.put(2 * SECTION, flags=1 << 6, mapcount=0xF4000000)
    pages.set_order(2 * SECTION, 16)
    with kinds_of(with_page_array(pages, RAM), tmp_path) as kinds:
        found = kinds.of(0, 4 * SECTION + 10)
        assert kinds.page_size == 4096
        assert kinds.unknown == ()
        # any part, in any order
        assert kinds.of(3 * SECTION + 5, 3).tolist() == [PageKind.USER] * 3
        for first, count in ((SECTION - 600, 700), (0, 1), (5 * SECTION, 7), (1 << 40, 1)):
            expected = np.zeros(count, np.uint8)
            expected[: max(len(found) - first, 0)] = found[first : first + count]
            assert kinds.of(first, count).tolist() == expected.tolist()
        assert kinds.of(12, 0).tolist() == []
    expected = np.zeros(len(found), np.uint8)
    expected[1] = PageKind.CACHE
    expected[SECTION - 512 : SECTION] = PageKind.FREE
    expected[SECTION : SECTION + 8] = PageKind.USER
    expected[2 * SECTION : 4 * SECTION] = PageKind.USER
    assert found.tolist() == expected.tolist()
    assert BLOCK == SECTION  # or the larger span is within one


def test_an_array_that_is_not_all_mapped(tmp_path: Path) -> None:
    pages = PageArray("6.1", SECTION)
    for pfn in range(100, 230):
        pages.put(pfn, flags=LRU["6.1"], mapping=FILE)
    kernel = with_page_array(pages, RAM, vmemmap=VMEMMAP)
    with kinds_of(kernel, tmp_path) as kinds:
        found = kinds.of(0, SECTION)
    # 64 structures are in the page that is not mapped
    expected = [PageKind.CACHE if 100 <= n < 128 or 192 <= n < 230 else 0 for n in range(SECTION)]
    assert found.tolist() == expected


def test_an_array_that_the_image_lacks_in_part(tmp_path: Path) -> None:
    pages = PageArray("6.1", SECTION)
    for pfn in range(SECTION):
        pages.put(pfn, flags=LRU["6.1"], mapping=FILE)
    kernel = with_page_array(pages, RAM)
    with kinds_of(kernel, tmp_path, size=ARRAY + 1000 * SIZE + 8) as kinds:
        found = kinds.of(0, SECTION)
    # whole pages of memory are read, and no structure of which a part is missing counts
    assert found[:960].tolist() == [PageKind.CACHE] * 960
    assert set(found[1000:].tolist()) == {PageKind.KERNEL}


def test_several_threads(tmp_path: Path) -> None:
    pages = PageArray("6.12", 2 * SECTION)
    pages.free(1024, 10)
    wrong = []
    with kinds_of(with_page_array(pages, RAM), tmp_path) as kinds:

        def ask(first: int) -> None:
            for start in range(first, 2 * SECTION, 1009):
                free = kinds.of(start, 1)[0] == PageKind.FREE
                if free != (1024 <= start < 2048):
                    wrong.append(start)

        threads = [threading.Thread(target=ask, args=(n * 7,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_kernel_that_tells_nothing_of_its_pages(tmp_path: Path) -> None:
    message = r"cannot tell what pages were used for: VMCOREINFO: SIZE\(page\) is None"
    with (
        pytest.raises(FormatError, match=message),
        kinds_of(make_kernel(ram=X86_RAM), tmp_path),
    ):
        pass
